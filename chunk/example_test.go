package chunk_test

import (
	"fmt"
	"log"
	"strings"

	"github.com/holdstill/holdstill/chunk"
)

// document is a small text with a line for every number.
func document(lines int) []byte {
	var b strings.Builder
	for i := range lines {
		fmt.Fprintf(&b, "line %d of a document, square %d\n", i, i*i)
	}
	return []byte(b.String())
}

// Cut data by content, name and store each chunk, and read it back.
func Example() {
	gear, err := chunk.NewGear(chunk.GearParams{Avg: 16 << 10}, nil)
	if err != nil {
		log.Fatal(err)
	}
	hash, err := chunk.NewIdentifier(nil)
	if err != nil {
		log.Fatal(err)
	}
	enc, err := chunk.NewEncoder(chunk.EncoderOptions{Policy: chunk.Fast})
	if err != nil {
		log.Fatal(err)
	}
	defer enc.Close()
	dec, err := chunk.NewDecoder()
	if err != nil {
		log.Fatal(err)
	}
	defer dec.Close()

	var stored, plain []byte
	for data := document(1500); len(data) > 0; {
		n := gear.Next(data, true)
		id := hash.Identify(data[:n])
		var codec chunk.Codec
		if stored, codec, err = enc.Encode(stored[:0], data[:n]); err != nil {
			log.Fatal(err)
		}
		if plain, err = dec.Decode(plain[:0], codec, stored, n); err != nil {
			log.Fatal(err)
		}
		if err := hash.Verify(id, plain); err != nil {
			log.Fatal(err)
		}
		fmt.Println(n, codec, id)
		data = data[n:]
	}
	// Output:
	// 14722 s2 45f0d53c609e134c9cfd311105e3ea3ccf0d78dc0f8dc963480015b542573ccf
	// 16116 s2 eed6ed6ee8f853531329d497410ce08cdcc03b6e03d37602574cd10900eddefb
	// 15280 s2 35fd964c08f5bdb2a38cd8693cb99bf80bb44cbba7260cb8cdd37593b32e1123
	// 11309 s2 cda209d711ec5adebd79cd5fdd734b05f38f63ace89d455add9617c545471331
}

// A reader that does not hold all of its data asks again with more when the answer is 0.
func ExampleCutter() {
	var cutter chunk.Cutter
	cutter, err := chunk.NewFixed(4096)
	if err != nil {
		log.Fatal(err)
	}
	data := document(300)
	buffered := 0 // bytes at the front of data that were "read"
	for len(data) > 0 {
		n := cutter.Next(data[:buffered], buffered == len(data))
		if n == 0 {
			buffered = min(buffered+1000, len(data))
			continue
		}
		fmt.Println(n)
		data, buffered = data[n:], buffered-n
	}
	// Output:
	// 4096
	// 4096
	// 2652
}

// An identity has one text form.
func ExampleParseID() {
	id := chunk.Identify([]byte("held still"))
	fmt.Println(id)
	_, err := chunk.ParseID(strings.ToUpper(id.String()))
	fmt.Println(err)
	// Output:
	// c507758ad9fe7702c63f92abab7023e396e48fec8994ba300775d714a483644f
	// chunk: bad ID "C507758AD9FE7702C63F92ABAB7023E396E48FEC8994BA300775D714A483644F" at byte 0: want a lower-case hexadecimal digit
}

// A chunk of which little changed is stored as the difference to what it was.
func ExampleEncoder_EncodeDelta() {
	enc, err := chunk.NewEncoder(chunk.EncoderOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer enc.Close()
	dec, err := chunk.NewDecoder()
	if err != nil {
		log.Fatal(err)
	}
	defer dec.Close()
	base := document(1000)
	changed := append([]byte("a new first line\n"), base...)

	stored, ok, err := enc.EncodeDelta(nil, changed, chunk.Identify(base), base)
	if err != nil || !ok {
		log.Fatal(ok, err) // without ok the difference is no shorter: Encode it in full
	}
	fmt.Println(len(changed), len(stored) < len(changed)/50)

	id, _ := chunk.DeltaBase(stored)
	fmt.Println(id == chunk.Identify(base))
	plain, err := dec.DecodeDelta(nil, stored, base, len(changed))
	fmt.Println(string(plain) == string(changed), err)
	// Output:
	// 37444 true
	// true
	// true <nil>
}
