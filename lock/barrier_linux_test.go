//go:build linux && amd64 && !race

package lock

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// refuseMembarrier puts a sandbox around the process, for good, in which
// membarrier fails.
func refuseMembarrier() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: unix.SYS_MEMBARRIER},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// Privileges belong to a thread, but TSYNC passes on that it has none.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}

// A gate works where membarrier is refused, and goes on to work when it is
// refused from some moment on. Both are tried in a process of their own.
func TestMembarrierIsRefused(t *testing.T) {
	const inChild = "HOLDSTILL_TEST_REFUSE_MEMBARRIER"
	if os.Getenv(inChild) == "" {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestMembarrierIsRefused$", "-test.v")
		cmd.Env = append(os.Environ(), inChild+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}

	before := New(Options{})
	if err := refuseMembarrier(); err != nil {
		t.Fatalf("no sandbox: %v", err)
	}
	if barrierWorks() {
		t.Fatal("the sandbox lets membarrier through")
	}
	after := New(Options{})
	if after.asym || !after.fenced {
		t.Error("a new gate relies on the barrier all the same")
	}
	for _, g := range []*Gate{before, after} {
		s := g.NewSession()
		if err := s.Enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(10*time.Millisecond, s.Exit)
		res, err := g.Freeze(t.Context(), FreezeOptions{}, func(context.Context) error { return nil })
		if err != nil || !res.Consistent {
			t.Errorf("%+v, %v", res, err)
		}
	}
	// The barrier that remains is still one.
	rounds, missed := runLitmus(func(p *uint32) { storeCell(p, 1) }, barrier)
	if rounds == 0 || missed != 0 {
		t.Errorf("neither side saw the other in %d of %d rounds", missed, rounds)
	}
	t.Logf("%d rounds", rounds)
}
