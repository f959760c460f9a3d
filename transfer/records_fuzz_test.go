package transfer

import (
	"bytes"
	"testing"
	"time"
)

func FuzzRecord(f *testing.F) {
	s := Status{ID: "114", Kind: KindUpload, State: StateFailed, Error: "x \xff", Created: time.Unix(1, 2).UTC(),
		Servers: map[string]ServerStatus{SingleServer: {State: StateFailed}}}
	good, err := renderRecord(&s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte(`{"sha256":"`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseRecord(data)
		if err != nil {
			return
		}
		// What was read can be written and read again.
		once, err := renderRecord(&s)
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseRecord(once)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := renderRecord(&back)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%s\n%s\n%v", once, twice, err)
		}
	})
}
