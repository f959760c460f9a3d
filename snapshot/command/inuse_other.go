//go:build !linux

package command

// inUse knows nothing of the locks that others hold on this system.
func inUse(string) error { return nil }
