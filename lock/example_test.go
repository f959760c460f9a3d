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

func ExampleSession() {
	ctx := context.Background()
	gate := lock.New(lock.Options{})
	defer gate.Close()

	requests := make(chan int)
	total := 0
	done := make(chan struct{})
	go func() { // a worker, with a session of its own
		defer close(done)
		session := gate.NewSession()
		defer session.Close()
		for n := range requests {
			if err := session.Enter(ctx); err != nil {
				fmt.Println(err)
				return
			}
			total += n
			session.Exit()
		}
	}()
	for n := range 5 {
		requests <- n
	}
	close(requests)
	<-done

	_, err := gate.Freeze(ctx, lock.FreezeOptions{}, func(context.Context) error {
		fmt.Println("total:", total)
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output: total: 10
}

// A store stands for a database that can be told to hold still.
type store struct{ name string }

func (s store) Freeze(context.Context) error { fmt.Println("freeze", s.name); return nil }
func (s store) Thaw()                        { fmt.Println("thaw", s.name) }

func ExampleGate_Register() {
	// Without a bound there is one attempt only, however long the two take.
	gate := lock.New(lock.Options{MaxStall: -1})
	defer gate.Close()
	for _, name := range []string{"orders", "log"} {
		if err := gate.Register(name, store{name}); err != nil {
			fmt.Println(err)
		}
	}
	_, err := gate.Freeze(context.Background(), lock.FreezeOptions{}, func(context.Context) error {
		fmt.Println("snapshot of both")
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// freeze log
	// freeze orders
	// snapshot of both
	// thaw orders
	// thaw log
}

func ExampleGate_Stats() {
	gate := lock.New(lock.Options{})
	defer gate.Close()
	_, err := gate.Freeze(context.Background(), lock.FreezeOptions{}, func(context.Context) error { return nil })
	if err != nil {
		fmt.Println(err)
	}
	stats := gate.Stats()
	fmt.Println("freezes:", stats.Consistent, "transactions held:", stats.Stalls.Count)
	fmt.Println("shut for minutes:", stats.Holds.Quantile(0.99) > time.Minute)
	// Output:
	// freezes: 1 transactions held: 0
	// shut for minutes: false
}
