package chunk

import (
	"encoding/base64"
	"math/rand/v2"
	"strconv"
)

// randomBytes returns n bytes without structure, the same for the same seed.
func randomBytes(n int, seed byte) []byte {
	src := rand.NewChaCha8([32]byte{seed})
	p := make([]byte, n)
	src.Read(p)
	return p
}

var rowWords = []string{"amber", "basalt", "cedar", "delta", "ember", "fjord", "garnet", "harbour", "indigo", "juniper",
	"kelp", "lagoon", "marble", "nectar", "onyx", "pepper", "quartz", "russet", "saffron", "tundra", "umber", "velvet",
	"willow", "yarrow", "zephyr"}

// rows returns n bytes that look like a document store's: JSON rows with growing keys, words, numbers, a time and a
// random token that does not compress.
func rows(n int, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 17))
	word := func() string { return rowWords[rng.IntN(len(rowWords))] }
	p := make([]byte, 0, n+512)
	var token [18]byte
	for id := seed * 1000; len(p) < n; id++ {
		for i := range token {
			token[i] = byte(rng.Uint32())
		}
		p = append(p, `{"_key":"`...)
		p = strconv.AppendUint(p, id, 10)
		p = append(p, `","owner":"`+word()+`.`+word()+`","amount":`...)
		p = strconv.AppendFloat(p, rng.ExpFloat64()*1e4, 'f', 2, 64)
		p = append(p, `,"at":`...)
		p = strconv.AppendInt(p, 1767225600000+int64(id)*1000+rng.Int64N(1000), 10)
		p = append(p, `,"token":"`...)
		p = base64.StdEncoding.AppendEncode(p, token[:])
		p = append(p, `","note":"`...)
		for range 2 + rng.IntN(9) {
			p = append(p, word()...)
			p = append(p, ' ')
		}
		p = append(p, "\"}\n"...)
	}
	return p[:n]
}
