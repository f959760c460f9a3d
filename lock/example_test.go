package lock_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdstill/holdstill/lock"
)

func Example() {
	ctx := context.Background()
	gate := lock.New(lock.Options{})
	defer gate.Close()

	balance := map[string]int{"anna": 100, "ben": 0}
	move := func(amount int) error {
		tx, err := gate.Begin(ctx)
		if err != nil {
			return err
		}
		defer tx.End()
		balance["anna"] -= amount
		balance["ben"] += amount
		return nil
	}
	if err := move(30); err != nil {
		fmt.Println(err)
	}

	var anna, ben int
	result, err := gate.Freeze(ctx, lock.FreezeOptions{}, func(context.Context) error {
		// No transaction is inside: the two sides agree.
		anna, ben = balance["anna"], balance["ben"]
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(anna, ben, "consistent:", result.Consistent)
	// Output: 70 30 consistent: true
}

func ExampleGate_BeginContext() {
	gate := lock.New(lock.Options{})
	defer gate.Close()

	ctx, tx, err := gate.BeginContext(lock.WithName(context.Background(), "import"))
	if err != nil {
		fmt.Println(err)
		return
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer tx.End()
		<-ctx.Done() // the import would go on for hours
		var forced *lock.ForcedError
		if errors.As(context.Cause(ctx), &forced) {
			fmt.Println("rolled back:", forced.Tx.Name)
		}
	}()

	opts := lock.FreezeOptions{Timeout: 10 * time.Millisecond, Force: true, MaxStall: -1}
	for { // a busy machine may need more than one timeout
		result, err := gate.Freeze(context.Background(), opts, func(context.Context) error { return nil })
		if errors.Is(err, lock.ErrTimeout) {
			continue
		}
		<-ended
		fmt.Println("consistent:", result.Consistent)
		return
	}
	// Output:
	// rolled back: import
	// consistent: true
}

func ExampleTx_Child() {
	gate := lock.New(lock.Options{})
	defer gate.Close()

	outer, err := gate.Begin(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	inner := outer.Child() // never waits, not even while a freeze does
	fmt.Println("inside:", gate.Stats().Inside)
	inner.End()
	outer.End()
	fmt.Println("inside:", gate.Stats().Inside)
	// Output:
	// inside: 2
	// inside: 0
}
