package main

import (
	"fmt"
	"io"
	"runtime"
	"strings"
)

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

// table prints the figures, a table for each kind of database.
func table(out io.Writer, set settings, systems []system, figures map[cell]figure) error {
	names := map[string]string{"kv": "Pebble", "meta": "bbolt", "sql": "SQLite", jsonKind: "JSON export"}
	var b strings.Builder
	fmt.Fprintf(&b, "What the next snapshot adds, in MiB and seconds; %s/%s, %d processors, seed %d.\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), set.seed)
	for _, kind := range set.kinds {
		fmt.Fprintf(&b, "\n%s, %d MiB, rows changed:\n\n|", names[kind], set.size>>20)
		for _, percent := range set.percents {
			fmt.Fprintf(&b, " | %v %% |", percent)
		}
		b.WriteString("\n|---|" + strings.Repeat("---:|---:|", len(set.percents)) + "\n")
		for _, s := range systems {
			fmt.Fprintf(&b, "| %s |", s.name)
			for _, percent := range set.percents {
				f := figures[cell{kind, percent, s.name}]
				seconds := "–"
				if f.seconds > 0 {
					seconds = fmt.Sprintf("%.2f s", f.seconds)
				}
				fmt.Fprintf(&b, " %.2f | %s |", mebibytes(f.added), seconds)
			}
			b.WriteString("\n")
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}
