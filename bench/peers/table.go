package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// markdown returns the whole report: what was measured, the table, and what to know
// to read it.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Corpus: %s; in the second generation %d %% of the rows are updated, which leaves %s in %d files, %s of them in files that are new or were written to.\n",
		r.old, percentChanged, size(r.new.bytes), r.new.files, size(r.new.rewritten))
	b.WriteString("Host: " + r.host + ". ")
	if r.settings.runs == 1 {
		b.WriteString("One run.")
	} else {
		fmt.Fprintf(&b, "Medians of %d runs", r.settings.runs)
		if typical, worst := r.spread(); worst > 0 {
			fmt.Fprintf(&b, ", of which the slowest took %s the fastest's time in the median of all cells, and %s at worst", ratio(typical), ratio(worst))
		}
		b.WriteString(".")
	}
	until := "until the tool returns, with what it wrote on disk or not"
	if r.settings.flush {
		until = "until the data is on disk"
	}
	fmt.Fprintf(&b, " Time is %s, start of the process included.\n\n", until)
	r.writeTable(&b)
	fmt.Fprintf(&b, "\nIn brackets: how many times holdstill's figure. A dash: the tool has no such step. "+
		"≤: the process had less than could be seen. Every restore was compared byte by byte.\n")
	for _, rec := range r.records {
		if rec.note != "" && rec.reason == "" {
			fmt.Fprintf(&b, "%s %s.\n", rec.name, rec.note)
		}
	}
	for _, rec := range r.records {
		if len(rec.inProcess) > 0 && rec.reason == "" {
			fmt.Fprintf(&b, "An unchanged snapshot by %s within a process that has its repository open: %s.\n", rec.name, seconds(median(rec.inProcess)))
		}
	}
	return b.String()
}

// spread tells how much the runs differ: the slowest over the fastest of a step, in
// the median of all peers' steps and at worst. Both are 0 where nothing ran twice.
func (r *report) spread() (typical, worst float64) {
	var ratios []float64
	for _, rec := range r.records {
		for _, figures := range rec.figures {
			fastest, slowest := math.Inf(1), 0.0
			for _, f := range figures {
				fastest, slowest = min(fastest, f.seconds), max(slowest, f.seconds)
			}
			if rec.reason == "" && len(figures) > 1 && fastest > 0 {
				ratios = append(ratios, slowest/fastest)
				worst = max(worst, slowest/fastest)
			}
		}
	}
	return median(ratios), worst
}

// A quantity is one of the things that are told of a step. Each is a line of a
// peer's in the table.
type quantity struct {
	name string
	// of returns the value and its text. ok is false where it makes no sense.
	of func(step, figure) (value float64, text string, ok bool)
}

var quantities = []quantity{
	{"time", func(_ step, f figure) (float64, string, bool) { return f.seconds, seconds(f.seconds), true }},
	{"stored", func(s step, f figure) (float64, string, bool) {
		return float64(f.added), signed(f.added), s.snapshots() || s == remove
	}},
	{"memory", func(_ step, f figure) (float64, string, bool) {
		text := size(f.peak)
		if f.atMost {
			text = "≤ " + text
		}
		return float64(f.peak), text, f.peak > 0
	}},
}

// writeTable writes three lines a peer: time, bytes and memory. The first column
// has name and version, settings, and encryption, one on each.
func (r *report) writeTable(b *strings.Builder) {
	head := []string{"", ""}
	for _, s := range measured {
		name := s.String()
		if s == changed {
			name += fmt.Sprintf(" %d %%", percentChanged)
		}
		head = append(head, name)
	}
	writeRow(b, head)
	b.WriteString(strings.Repeat("|---", 2) + strings.Repeat("|--:", len(measured)) + "|\n")
	for _, rec := range r.records {
		about := []string{"**" + strings.TrimSpace(rec.name+" "+rec.version) + "**", "`" + rec.settings + "`", "encrypted: " + rec.encryption}
		if rec.reason != "" {
			row := []string{about[0] + " " + about[1], rec.reason}
			writeRow(b, append(row, make([]string, len(measured))...))
			continue
		}
		for i, q := range quantities {
			row := []string{about[i], q.name}
			for _, s := range measured {
				row = append(row, r.cell(rec, s, q))
			}
			writeRow(b, row)
		}
	}
}

// cell is a figure, with its ratio to that of the first peer.
func (r *report) cell(rec *record, s step, q quantity) string {
	f, ok := rec.typical(s)
	if !ok {
		return "–"
	}
	value, text, ok := q.of(s, f)
	if !ok {
		return ""
	}
	ours, ok := r.records[0].typical(s)
	if rec == r.records[0] || !ok {
		return text
	}
	base, _, _ := q.of(s, ours)
	if base <= 0 || value <= 0 {
		return text
	}
	return text + " (" + ratio(value/base) + ")"
}

// writeRow writes a line of a table. What would end a cell or the line is escaped.
func writeRow(b *strings.Builder, cells []string) {
	escape := strings.NewReplacer("|", `\|`, "\n", " ", "\r", " ")
	for _, c := range cells {
		b.WriteString("| " + escape.Replace(c) + " ")
	}
	b.WriteString("|\n")
}

// three renders a number with about three digits that count.
func three(v float64) string {
	digits := 2
	for limit := 10.0; digits > 0 && v >= limit; limit *= 10 {
		digits--
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}

func ratio(v float64) string { return three(v) + "×" }

// seconds renders a time.
func seconds(v float64) string {
	if v < 1 {
		return three(v*1e3) + " ms"
	}
	return three(v) + " s"
}

// size renders bytes.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, unit := float64(n), 0
	for v >= 1024 && unit < len(units)-1 {
		v /= 1024
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return three(v) + " " + units[unit]
}

func signed(n int64) string {
	if n < 0 {
		return "−" + size(-n)
	}
	return size(n)
}

// with returns the peers that have a figure for a step, in the table's order.
func (r *report) with(s step) []*record {
	return slices.DeleteFunc(slices.Clone(r.records), func(rec *record) bool {
		_, ok := rec.typical(s)
		return !ok
	})
}
