//go:build !windows

package repo

func isDiskFull(error) bool { return false }
