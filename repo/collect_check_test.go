package repo

import (
	"context"
	"strings"
	"testing"
)

// A check is stopped before each kind of request, while snapshots are deleted and their packs
// collected; that is no damage.
func TestCheckBesideCollection(t *testing.T) {
	for _, readData := range []bool{false, true} {
		for _, stop := range []string{"list snapshot/", "read snapshot/", "list index/", "read index/", "list pack/", "read pack/"} {
			st := newStage(t, faultNone)
			keep := noiseData(2, 30_000)
			st.snapshot("gone", map[string][]byte{"a": noiseData(1, 90_000), "keep": keep})
			st.snapshot("kept", map[string][]byte{"keep": keep})
			var report *Report
			check := st.until("check", stop, func(ctx context.Context, r *Repository) (err error) {
				report, err = r.Check(ctx, CheckOptions{ReadData: readData})
				return err
			})
			st.delete("gone")
			st.collect(CollectOptions{})
			if err := check.finish(); err != nil {
				t.Fatal(err)
			}
			if len(report.Damage) > 0 || report.Snapshots != 1 && !strings.HasPrefix(stop, "list pack") && !strings.HasPrefix(stop, "read pack") {
				t.Errorf("stopped before %q, with data %v: %d snapshots, damage %v", stop, readData, report.Snapshots, report.Damage)
			}
		}
	}
}
