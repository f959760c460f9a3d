//go:build dragonfly || freebsd || netbsd || openbsd

package snapshot

// renameNew renames a folder. rename(2) of a folder can replace nothing but an
// empty folder.
func renameNew(s *site, from, to string) error { return renameOver(s, from, to) }
