package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// show tells the user what happens: with a moving bar on a terminal, in plain
// lines elsewhere.
type show struct {
	out      io.Writer
	terminal bool
}

// A step is one part of the demo, with a progress in bytes or rows.
type step struct {
	s     *show
	name  string
	start time.Time

	mu    sync.Mutex
	bars  *mpb.Progress // on a terminal, and nil after finish
	bar   *mpb.Bar
	total int64
	next  int // the next percentage that a plain line tells
}

// step begins a step. total may be 0 as long as it is not known.
func (s *show) step(name string, total int64) *step {
	st := &step{s: s, name: name, start: time.Now(), total: total, next: 25}
	if s.terminal {
		st.bars = mpb.New(mpb.WithOutput(s.out), mpb.WithWidth(40), mpb.WithRefreshRate(100*time.Millisecond))
		st.bar = st.bars.AddBar(total, mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name("  "+name, decor.WC{W: nameWidth + 2, C: decor.DindentRight})),
			mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5})))
	}
	return st
}

const nameWidth = 34

// progress may be called from any goroutine, as often as one likes.
func (st *step) progress(done, total int64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.bars != nil {
		if total != st.total {
			st.bar.SetTotal(total, false)
		}
		st.bar.SetCurrent(done)
	}
	st.total = total
	if st.s.terminal || total <= 0 {
		return
	}
	percent := int(100 * float64(done) / float64(total))
	if percent >= st.next && percent < 100 {
		fmt.Fprintf(st.s.out, "  %-*s %3d %%\n", nameWidth, st.name, percent)
		st.next = percent/25*25 + 25
	}
}

// finish ends the step with a line of what came out, and returns how long it took.
func (st *step) finish(format string, args ...any) time.Duration {
	took := time.Since(st.start)
	st.close()
	fmt.Fprintf(st.s.out, "  %-*s %8s   %s\n", nameWidth, st.name, seconds(took), fmt.Sprintf(format, args...))
	return took
}

// close takes the bar away. It is for steps that failed; finish calls it too.
func (st *step) close() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.bars != nil {
		st.bar.Abort(true)
		st.bars.Wait()
		st.bars = nil
	}
}

// table prints rows of a heading and its cells: words to the left, figures to
// the right, under a line of column names.
func (s *show) table(columns []string, lines [][]string) {
	widths := make([]int, len(columns))
	for _, line := range append([][]string{columns}, lines...) {
		for i, cell := range line {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	write := func(line []string) {
		var b strings.Builder
		b.WriteString("  ")
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if i == 0 {
				b.WriteString(cell + pad)
			} else {
				b.WriteString("   " + pad + cell)
			}
		}
		fmt.Fprintln(s.out, strings.TrimRight(b.String(), " "))
	}
	write(columns)
	var rule []string
	for _, w := range widths {
		rule = append(rule, strings.Repeat("-", w))
	}
	write(rule)
	for _, line := range lines {
		write(line)
	}
}

// size writes a number of bytes for people, in binary units.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	default:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func millis(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

// percent writes part of whole; a whole of 0 has no parts.
func percent(part, whole int64) string {
	if whole == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(part)/float64(whole))
}
