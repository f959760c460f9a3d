package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Sizes in the chart, in pixels.
const (
	chartWidth  = 960
	chartMargin = 28
	chartHead   = 88
	chartFoot   = 44
	columnGap   = 48
	rowGap      = 26
	panelHead   = 32
	barHeight   = 16
	barGap      = 7
	nameWidth   = 158 // before the bars
	valueWidth  = 76  // behind the longest bar
)

// chartStyle colours the chart by classes, for light and dark pages. Viewers that do not
// know the question about dark pages show the light form, on its own background.
const chartStyle = `<style>
.page{fill:#ffffff;stroke:#d1d9e0}.ink{fill:#1f2328}.soft{fill:#59636e}.other{fill:#b6bfc8}.ours{fill:#0969da}.axis{stroke:#d1d9e0}
@media (prefers-color-scheme:dark){
.page{fill:#0d1117;stroke:#3d444d}.ink{fill:#f0f6fc}.soft{fill:#9198a1}.other{fill:#4d5661}.ours{fill:#4493f8}.axis{stroke:#3d444d}}
</style>
`

// A panel is one diagram: one quantity of one step.
type panel struct {
	title string
	unit  string // what is measured, in a few words
	step  step
	of    func(figure) (float64, string)
}

// panels are laid out in two columns, row by row.
func panels() []panel {
	time := func(f figure) (float64, string) { return f.seconds, seconds(f.seconds) }
	bytes := func(f figure) (float64, string) { return float64(f.added), signed(f.added) }
	memory := func(f figure) (float64, string) { return float64(f.peak), size(f.peak) }
	return []panel{
		{"First snapshot", "time", first, time},
		{"First snapshot", "repository", first, bytes},
		{fmt.Sprintf("%d %% of the rows changed", percentChanged), "time", changed, time},
		{fmt.Sprintf("%d %% of the rows changed", percentChanged), "repository grows by", changed, bytes},
		{"Nothing changed", "time", unchanged, time},
		{"First snapshot", "peak memory", first, memory},
		{"Restore", "time", restore, time},
		{"Check of all data", "time", check, time},
	}
}

// chart returns the report as bars in an SVG, shorter is better everywhere.
func (r *report) chart() string {
	const columns = 2
	panelWidth := (chartWidth - 2*chartMargin - (columns-1)*columnGap) / columns
	var body strings.Builder
	y := chartHead
	all := panels()
	for i := 0; i < len(all); i += columns {
		height := 0
		for j, p := range all[i:min(i+columns, len(all))] {
			x := chartMargin + j*(panelWidth+columnGap)
			height = max(height, r.drawPanel(&body, p, x, y, panelWidth))
		}
		y += height + rowGap
	}
	y += chartFoot - rowGap
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" font-family="-apple-system, 'Segoe UI', system-ui, 'Helvetica Neue', Arial, sans-serif" font-size="13">`+"\n", chartWidth, y)
	title := fmt.Sprintf("Snapshots of %s of databases: holdstill and other tools", size(r.old.bytes))
	fmt.Fprintf(&b, "<title>%s</title>\n%s", escapeXML(title), chartStyle)
	fmt.Fprintf(&b, `<rect class="page" x="0.5" y="0.5" width="%d" height="%d" rx="8" fill="#ffffff" stroke="#d1d9e0"/>`+"\n", chartWidth-1, y-1)
	text(&b, chartMargin, 38, ink, "start", `font-size="19" font-weight="600"`, title)
	text(&b, chartMargin, 61, soft, "start", "", "Shorter is better. Every panel has a scale of its own, and the shortest bar first.")
	b.WriteString(body.String())
	text(&b, chartMargin, y-16, soft, "start", `font-size="12"`, r.footnote())
	b.WriteString("</svg>\n")
	return b.String()
}

// footnote says how the figures came about.
func (r *report) footnote() string {
	note := r.host
	if r.settings.runs > 1 {
		note += fmt.Sprintf("; medians of %d runs", r.settings.runs)
	}
	if r.settings.flush {
		note += "; times until the data is on disk"
	}
	return note + "."
}

// A bar is the figure of one peer.
type bar struct {
	name, label string
	value       float64
}

// bars returns those of a panel, the shortest first.
func (r *report) bars(p panel) (all []bar) {
	for _, rec := range r.with(p.step) {
		f, _ := rec.typical(p.step)
		value, label := p.of(f)
		all = append(all, bar{name: rec.name, label: label, value: value})
	}
	slices.SortStableFunc(all, func(a, b bar) int { return cmp.Compare(a.value, b.value) })
	return all
}

// drawPanel draws the bars of one panel and returns its height.
func (r *report) drawPanel(b *strings.Builder, p panel, x, y, width int) int {
	fmt.Fprintf(b, `<text class="ink" x="%d" y="%d" fill="#1f2328" font-weight="600">%s<tspan class="soft" fill="#59636e" font-weight="400">: %s</tspan></text>`+"\n",
		x, y+14, escapeXML(p.title), escapeXML(p.unit))
	all := r.bars(p)
	longest := 0.0
	for _, bar := range all {
		longest = max(longest, bar.value)
	}
	room := float64(width - nameWidth - valueWidth)
	top := y + panelHead
	for _, bar := range all {
		length := 0.0
		if longest > 0 {
			length = max(bar.value, 0) / longest * room
		}
		class, color, weight := "other", "#b6bfc8", ""
		if strings.HasPrefix(bar.name, "holdstill") {
			class, color, weight = "ours", "#0969da", `font-weight="600"`
		}
		text(b, x+nameWidth-10, top+13, ink, "end", weight, bar.name)
		// A sliver at least, so that a bar can be seen.
		fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2" fill="%s"/>`+"\n", class, x+nameWidth, top, max(length, 2), barHeight, color)
		style := soft
		if weight != "" {
			style = ink
		}
		text(b, x+nameWidth+int(max(length, 2))+7, top+13, style, "start", weight, bar.label)
		top += barHeight + barGap
	}
	fmt.Fprintf(b, `<path class="axis" d="M%d.5 %dV%d" stroke="#d1d9e0"/>`+"\n", x+nameWidth-1, y+panelHead-4, top-barGap+4)
	return top - y - barGap
}

// The two colours of text, as attributes: the class, and what counts where styles do not.
const (
	ink  = `class="ink" fill="#1f2328"`
	soft = `class="soft" fill="#59636e"`
)

func text(b *strings.Builder, x, y int, color, anchor, attributes, s string) {
	if attributes != "" {
		attributes = " " + attributes
	}
	fmt.Fprintf(b, "<text %s x=\"%d\" y=\"%d\" text-anchor=\"%s\"%s>%s</text>\n", color, x, y, anchor, attributes, escapeXML(s))
}

func escapeXML(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(s)
}
