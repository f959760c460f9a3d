package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

// sample is a report with every kind of row.
func sample() *report {
	full := func(scale float64) map[step][]figure {
		figures := make(map[step][]figure)
		for _, s := range measured {
			figures[s] = []figure{
				{seconds: 9 * scale, added: int64(9 << 20 * scale), peak: int64(90 << 20 * scale)},
				{seconds: 2 * scale, added: int64(8 << 20 * scale), peak: int64(80 << 20 * scale)},
				{seconds: 1 * scale, added: int64(1 << 20 * scale), peak: int64(10 << 20 * scale)},
			}
		}
		figures[remove] = []figure{{seconds: scale, added: -3 << 20, peak: 4 << 20, atMost: true}}
		return figures
	}
	ours, other := full(1), full(1.5)
	delete(ours, remove)
	delete(other, check)
	return &report{
		settings: settings{runs: 3, flush: true}, host: "testos",
		old: corpusSize{files: 3, bytes: 4 << 20, by: map[string]int64{"kv": 2 << 20, "meta": 1 << 20, "sql": 1 << 20}},
		new: corpusSize{files: 3, bytes: 5 << 20, rewritten: 1 << 20},
		records: []*record{
			{description: description{name: "holdstill", settings: "zstd", encryption: "no"}, figures: ours, inProcess: []float64{0.003, 0.001, 0.002}},
			{description: description{name: "a|b", settings: "-x", encryption: "yes", note: "is a pipe"}, version: "1.2", figures: other},
			{description: description{name: "gone", settings: "-y", encryption: "no"}, reason: "missing: there is no gone; install gone"},
			{description: description{name: "broken", settings: "-z", encryption: "no"}, reason: "failed: a | b\nc", failed: errors.New("a | b\nc"), figures: full(2)},
		},
	}
}

func TestMarkdown(t *testing.T) {
	const want = `|  |  | first | unchanged | changed 5 % | restore | check | delete and collect |
|---|---|--:|--:|--:|--:|--:|--:|
| **holdstill** | time | 2.00 s | 2.00 s | 2.00 s | 2.00 s | 2.00 s | – |
| ` + "`zstd`" + ` | stored | 8.00 MiB | 8.00 MiB | 8.00 MiB |  |  | – |
| encrypted: no | memory | 80.0 MiB | 80.0 MiB | 80.0 MiB | 80.0 MiB | 80.0 MiB | – |
| **a\|b 1.2** | time | 3.00 s (1.50×) | 3.00 s (1.50×) | 3.00 s (1.50×) | 3.00 s (1.50×) | – | 1.50 s |
| ` + "`-x`" + ` | stored | 12.0 MiB (1.50×) | 12.0 MiB (1.50×) | 12.0 MiB (1.50×) |  | – | −3.00 MiB |
| encrypted: yes | memory | 120 MiB (1.50×) | 120 MiB (1.50×) | 120 MiB (1.50×) | 120 MiB (1.50×) | – | ≤ 4.00 MiB |
| **gone** ` + "`-y`" + ` | missing: there is no gone; install gone |  |  |  |  |  |  |
| **broken** ` + "`-z`" + ` | failed: a \| b c |  |  |  |  |  |  |
`
	got := sample().markdown()
	if !strings.Contains(got, want) {
		t.Errorf("got\n%s\nwhich does not contain\n%s", got, want)
	}
	for _, part := range []string{
		"Corpus: 4.00 MiB in 3 files (Pebble 2.00 MiB, SQLite 1.00 MiB, bbolt 1.00 MiB); in the second generation 5 %",
		"Medians of 3 runs, of which the slowest took 9.00× the fastest's time in the median of all cells, and 9.00× at worst. Time is until the data is on disk",
		"\na|b is a pipe.\n",
		"An unchanged snapshot by holdstill within a process that has its repository open: 2.00 ms.\n",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("got\n%s\nwhich does not contain %q", got, part)
		}
	}
}

// TestNoFiguresOfBrokenRuns tests that a peer which failed has no figure, in the
// table or in the chart, even if some of its steps went well.
func TestNoFiguresOfBrokenRuns(t *testing.T) {
	r := sample()
	for _, s := range measured {
		if f, ok := r.records[3].typical(s); ok {
			t.Errorf("%v: %+v", s, f)
		}
	}
	if strings.Contains(r.chart(), "broken") {
		t.Error("it is in the chart")
	}
	if err := r.failure(); err == nil || !strings.HasPrefix(err.Error(), "broken: ") {
		t.Errorf("the failure is %v", err)
	}
	r.records = r.records[:3]
	if err := r.failure(); err != nil {
		t.Errorf("a missing peer is a failure: %v", err)
	}
}

func TestChart(t *testing.T) {
	r := sample()
	r.records[1].name = `<b> & "c"`
	chart := r.chart()
	decoder := xml.NewDecoder(strings.NewReader(chart))
	bars, texts := 0, ""
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, chart)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if token.Name.Local == "rect" {
				bars++
			}
		case xml.CharData:
			texts += string(token) + "\n"
		}
	}
	// Two peers in each panel, but one of them cannot check, and the background.
	if want := 2*len(panels()) - 1 + 1; bars != want {
		t.Errorf("%d bars, want %d", bars, want)
	}
	for _, part := range []string{"\n<b> & \"c\"\n", "\nholdstill\n", "\n3.00 s\n", "First snapshot\n", ": time\n", "testos; medians of 3 runs"} {
		if !strings.Contains(texts, part) {
			t.Errorf("the texts lack %q:\n%s", part, texts)
		}
	}
}

// The chart is readable where styles are not known, and on dark pages where they are.
func TestChartColours(t *testing.T) {
	chart := sample().chart()
	if !strings.Contains(chart, "prefers-color-scheme:dark") {
		t.Error("it has no colours for dark pages")
	}
	for line := range strings.Lines(chart) {
		if strings.Contains(line, "class=") && !strings.Contains(line, "fill=") && !strings.Contains(line, "stroke=") {
			t.Errorf("no colour without styles: %s", line)
		}
	}
}

// The shortest bar stands first, and a peer without a figure nowhere.
func TestBars(t *testing.T) {
	r := sample()
	r.records[0].figures[first] = []figure{{seconds: 7}}
	r.records[1].figures[first] = []figure{{seconds: 5}}
	var names []string
	for _, b := range r.bars(panels()[0]) {
		names = append(names, b.name+" "+b.label)
	}
	if got, want := strings.Join(names, ", "), "a|b 5.00 s, holdstill 7.00 s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestEmptyChart tests figures of zero, which have no longest bar.
func TestEmptyChart(t *testing.T) {
	r := sample()
	for _, rec := range r.records {
		for s := range rec.figures {
			rec.figures[s] = []figure{{}}
		}
	}
	if chart := r.chart(); strings.Contains(chart, "NaN") || strings.Contains(chart, "Inf") {
		t.Error(chart)
	}
	if table := r.markdown(); strings.Contains(table, "NaN") || strings.Contains(table, "Inf") {
		t.Error(table)
	}
}

func TestNumbers(t *testing.T) {
	for got, want := range map[string]string{
		seconds(0.00123): "1.23 ms", seconds(0.5): "500 ms", seconds(1): "1.00 s", seconds(12.34): "12.3 s", seconds(1234): "1234 s",
		size(0): "0 B", size(1023): "1023 B", size(1024): "1.00 KiB", size(150 << 20): "150 MiB", size(5 << 40): "5.00 TiB", size(5 << 50): "5120 TiB",
		signed(-2048): "−2.00 KiB", signed(2048): "2.00 KiB",
		ratio(0.05): "0.05×", ratio(23770): "23770×",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, test := range []struct {
		numbers []float64
		want    float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 3, 2, 1}, 2.5}} {
		if got := median(test.numbers); got != test.want {
			t.Errorf("median of %v: got %v, want %v", test.numbers, got, test.want)
		}
	}
}
