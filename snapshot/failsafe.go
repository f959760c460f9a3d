package snapshot

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A failsafe is one that stands beside a target.
type failsafe struct {
	name string
	at   time.Time
	// nth counts those of one second, from 1.
	nth int
}

// parseFailsafe takes the name of a failsafe of base apart. It knows only what previousName
// makes: folders of other names were made by somebody else, and are not to be removed.
func parseFailsafe(name, base string) (failsafe, bool) {
	stamp, ok := strings.CutPrefix(name, base+previousInfix)
	if !ok {
		return failsafe{}, false
	}
	f := failsafe{name: name, nth: 1}
	stamp, suffix, numbered := strings.Cut(stamp, "-")
	var err error
	if numbered {
		if f.nth, err = strconv.Atoi(suffix); err != nil || f.nth < 2 || strconv.Itoa(f.nth) != suffix {
			return failsafe{}, false
		}
	}
	f.at, err = time.Parse(previousStamp, stamp)
	return f, err == nil
}

// failsafes lists the failsafes of the target, the newest first.
func (s *site) failsafes() ([]failsafe, error) {
	d, err := s.parent.Open(".")
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return nil, err
	}
	var found []failsafe
	for _, name := range names {
		f, ok := parseFailsafe(name, s.base)
		if !ok {
			continue
		}
		if _, err := checkFolder(s.parent, name); err == nil {
			found = append(found, f)
		}
	}
	slices.SortFunc(found, func(a, b failsafe) int {
		return cmp.Or(b.at.Compare(a.at), b.nth-a.nth)
	})
	return found, nil
}

// trimFailsafes removes all failsafes of the target but the newest ones, of which previous,
// the path of the last one, counts as the first whatever its time. Each gets the name of
// a staging folder first: what a crash leaves of it is no failsafe then, and Recover removes
// it. The caller holds the lock.
func (s *site) trimFailsafes(ctx context.Context, previous string, keep int) (removed []string, err error) {
	all, err := s.failsafes()
	if err != nil {
		return nil, err
	}
	others := slices.DeleteFunc(all, func(f failsafe) bool { return s.join(f.name) == previous })
	if previous != "" {
		keep--
	}
	for i := max(keep, 0); i < len(others); i++ {
		if err := context.Cause(ctx); err != nil {
			return removed, err
		}
		var random [stagingDigits / 2]byte
		_, _ = rand.Read(random[:])
		doomed := "." + s.base + stagingInfix + hex.EncodeToString(random[:])
		if err := s.ops.move(s, others[i].name, doomed); err != nil {
			return removed, err
		}
		removed = append(removed, s.join(others[i].name))
		if err := s.ops.syncDir(s.dir); err != nil {
			return removed, err
		}
		if err := s.ops.removeAll(s.parent, doomed); err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// trimFailsafes removes the failsafes that are not to be kept.
func (r *restorer) trimFailsafes(ctx context.Context, s *site, result *RestoreResult) {
	removed, err := s.trimFailsafes(ctx, result.Previous, r.opts.KeepFailsafes)
	result.FailsafesRemoved = int64(len(removed))
	if err != nil && r.log != nil {
		r.log.Warn("older failsafes of a restore could not be removed", "to", result.To, "error", err)
	}
}
