package arangodb

// maxLabel is the most that snapshot.CheckLabel takes, in bytes.
const maxLabel = 212

// cleanLabel makes a label that can be part of an ID of any text, as the original does: letters, digits,
// hyphens, dots and underscores stay, white space becomes an underscore, other punctuation a dot, and the
// rest is dropped. What is too long is cut. The result may be empty.
func cleanLabel(text string) string {
	var out []byte
	for i := 0; i < len(text) && len(out) < maxLabel; i++ {
		switch c := text[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
			out = append(out, c)
		case c == ' ', c >= '\t' && c <= '\r':
			out = append(out, '_')
		case c > ' ' && c < 0x7f:
			out = append(out, '.')
		}
	}
	return string(out)
}
