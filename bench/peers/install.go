package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// missing returns the programs of a peer that are not installed.
func missing(d description) (programs []string) {
	for _, program := range d.programs {
		if _, err := exec.LookPath(program); err != nil {
			programs = append(programs, program)
		}
	}
	return programs
}

// install installs the packages of peers that are missing, with apt-get.
func install(ctx context.Context, peers []peer, progress io.Writer) error {
	var packages []string
	for _, p := range peers {
		if d := p.describe(); len(missing(d)) > 0 {
			packages = append(packages, d.packages...)
		}
	}
	if len(packages) == 0 {
		return nil
	}
	slices.Sort(packages)
	packages = slices.Compact(packages)
	for _, args := range [][]string{{"update", "-q"}, append([]string{"install", "-y", "-q"}, packages...)} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = progress, progress
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w (without -install, missing peers are reported and left out)", strings.Join(args, " "), err)
		}
	}
	return nil
}

// A version has dots in it, unless the tool counts in whole numbers.
var (
	dotted = regexp.MustCompile(`\d+(\.\d+)+(-[A-Za-z][A-Za-z0-9.]*)?`)
	number = regexp.MustCompile(`\b\d+\b`)
)

// versionOf finds a version in what a tool prints about itself, or returns "".
func versionOf(output string) string {
	if found := dotted.FindString(output); found != "" {
		return found
	}
	return number.FindString(output)
}

// version asks a tool for its version. It is empty for what is built from this tree.
func version(ctx context.Context, d description) (string, error) {
	if len(d.version) == 0 {
		return "", nil
	}
	out, err := exec.CommandContext(ctx, d.version[0], d.version[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(d.version, " "), err)
	}
	found := versionOf(string(out))
	if found == "" {
		return "", fmt.Errorf("%s: there is no version in %q", strings.Join(d.version, " "), lastLine(string(out)))
	}
	return found, nil
}
