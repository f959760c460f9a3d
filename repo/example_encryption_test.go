package repo_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo"
)

// An encrypted repository, and the change of its passphrase.
func ExamplePassphrase() {
	ctx := context.Background()
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	// Cheap to try, so that the example is quick; leave the options out otherwise.
	cheap := repo.PassphraseOptions{Argon2: repo.Argon2{Time: 1, Memory: 8 << 20, Threads: 1}}
	old := repo.Passphrase([]byte("correct horse"), cheap)

	err := repo.Init(ctx, bucket, repo.InitOptions{Encryption: &repo.Encryption{Key: old, Label: "2026"}})
	if err != nil {
		log.Fatal(err)
	}
	r, err := repo.Open(ctx, bucket, repo.Options{Key: old})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	added, err := r.AddKey(ctx, repo.Passphrase([]byte("battery staple"), cheap), repo.AddKeyOptions{Label: "2027"})
	if err != nil {
		log.Fatal(err)
	}
	for k, err := range r.Keys(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(k.Kind, k.Label)
		if k.ID != added.ID {
			if err := r.RemoveKey(ctx, k.ID); err != nil {
				log.Fatal(err)
			}
		}
	}
	_, err = repo.Open(ctx, bucket, repo.Options{Key: old})
	fmt.Println(errors.Is(err, repo.ErrKey))
	// Output:
	// argon2id 2026
	// argon2id 2027
	// true
}
