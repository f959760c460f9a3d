package main

import (
	"fmt"
	"strings"
)

// Sizes in the chart, in pixels.
const (
	chartWidth  = 1040
	panelGap    = 24
	panelHead   = 34
	barHeight   = 18
	barGap      = 5
	nameWidth   = 118
	valueWidth  = 78
	chartHead   = 56
	chartMargin = 16
)

// A panel is one diagram: one quantity of one step.
type panel struct {
	title string
	step  step
	of    func(figure) (float64, string)
}

// panels are laid out in two columns, row by row.
func panels() []panel {
	time := func(f figure) (float64, string) { return f.seconds, seconds(f.seconds) }
	bytes := func(f figure) (float64, string) { return float64(f.added), signed(f.added) }
	memory := func(f figure) (float64, string) { return float64(f.peak), size(f.peak) }
	return []panel{
		{"First snapshot: time", first, time},
		{"First snapshot: bytes stored", first, bytes},
		{"Changed snapshot: time", changed, time},
		{"Changed snapshot: bytes stored", changed, bytes},
		{"Unchanged snapshot: time", unchanged, time},
		{"First snapshot: peak memory", first, memory},
		{"Restore: time", restore, time},
		{"Check of all data: time", check, time},
	}
}

// chart returns the report as bars in an SVG, shorter is better everywhere.
func (r *report) chart() string {
	const columns = 2
	panelWidth := (chartWidth - 2*chartMargin - (columns-1)*panelGap) / columns
	var body strings.Builder
	y := chartHead
	all := panels()
	for i := 0; i < len(all); i += columns {
		height := 0
		for j, p := range all[i:min(i+columns, len(all))] {
			x := chartMargin + j*(panelWidth+panelGap)
			height = max(height, r.drawPanel(&body, p, x, y, panelWidth))
		}
		y += height + panelGap
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" font-family="system-ui, sans-serif" font-size="12">`+"\n", chartWidth, y)
	title := fmt.Sprintf("holdstill and its peers on %s of databases", size(r.old.bytes))
	fmt.Fprintf(&b, "<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n", escapeXML(title))
	text(&b, chartMargin, 24, "#1b1f24", "start", `font-size="16" font-weight="600"`, title)
	text(&b, chartMargin, 42, "#57606a", "start", "", fmt.Sprintf("%s. Each panel has a scale of its own; shorter is better.", r.host))
	b.WriteString(body.String())
	b.WriteString("</svg>\n")
	return b.String()
}

// drawPanel draws the bars of one panel and returns its height.
func (r *report) drawPanel(b *strings.Builder, p panel, x, y, width int) int {
	text(b, x, y+16, "#1b1f24", "start", `font-weight="600"`, p.title)
	records := r.with(p.step)
	longest := 0.0
	for _, rec := range records {
		f, _ := rec.typical(p.step)
		value, _ := p.of(f)
		longest = max(longest, value)
	}
	room := float64(width - nameWidth - valueWidth)
	for i, rec := range records {
		f, _ := rec.typical(p.step)
		value, label := p.of(f)
		length := 0.0
		if longest > 0 {
			length = max(value, 0) / longest * room
		}
		top := y + panelHead - 8 + i*(barHeight+barGap)
		color := "#8c959f"
		if strings.HasPrefix(rec.name, "holdstill") {
			color = "#0969da"
		}
		text(b, x+nameWidth-8, top+13, "#1b1f24", "end", "", rec.name)
		// A sliver at least, so that a bar can be seen.
		fmt.Fprintf(b, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\" fill=\"%s\"/>\n", x+nameWidth, top, max(length, 1), barHeight, color)
		text(b, x+nameWidth+int(length)+6, top+13, "#57606a", "start", "", label)
	}
	return panelHead + len(records)*(barHeight+barGap)
}

func text(b *strings.Builder, x, y int, color, anchor, attributes, s string) {
	if attributes != "" {
		attributes = " " + attributes
	}
	fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" fill=\"%s\" text-anchor=\"%s\"%s>%s</text>\n", x, y, color, anchor, attributes, escapeXML(s))
}

func escapeXML(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(s)
}
