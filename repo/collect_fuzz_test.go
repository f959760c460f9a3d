package repo

import (
	"strings"
	"testing"
)

// What keys of leases and plans are taken for, they are written as.
func FuzzCollectKeys(f *testing.F) {
	id, plan := sessionID{1, 2, 255}, planID{7, 9}
	for _, key := range []string{
		leaseKey(id), beatKey(id, 1), beatKey(id, 1<<30), leaseKey(id) + ".0", leaseKey(id) + ".01", leaseKey(id) + ".-1",
		closingKey(id), verdictKey(id), deletedKey(id), planKey(plan), planKey(plan) + waitSuffix, planKey(plan) + cleanSuffix + "3",
		strings.ToUpper(planKey(plan)), sessionGarbage, planGarbage + "00", "",
	} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if id, beat, ok := parseLeaseKey(key); ok {
			want := leaseKey(id)
			if beat > 0 {
				want = beatKey(id, beat)
			}
			if want != key {
				t.Errorf("%q is taken for %q", key, want)
			}
		}
		v := &garbageView{
			closing: map[sessionID]bool{}, verdicts: map[sessionID]bool{}, deleted: map[sessionID]bool{},
			plans: map[planID]map[string]bool{},
		}
		v.add(key)
		var understood []string
		for id := range v.closing {
			understood = append(understood, closingKey(id))
		}
		for id := range v.verdicts {
			understood = append(understood, verdictKey(id))
		}
		for id := range v.deleted {
			understood = append(understood, deletedKey(id))
		}
		for id, suffixes := range v.plans {
			for suffix := range suffixes {
				understood = append(understood, planKey(id)+suffix)
			}
		}
		if len(understood) > 1 || len(understood) == 1 && understood[0] != key {
			t.Errorf("%q is taken for %q", key, understood)
		}
	})
}

// Documents below garbage/ are refused, or hold what they say.
func FuzzCollectDocuments(f *testing.F) {
	for _, v := range []any{
		newPackList([]packID{{1}, {255, 3}}), newPackList(nil), sessionList{[]string{sessionID{4}.String()}},
		verdict{[]string{"2026-03-14T15.09.26Z_nightly"}}, packList{[]string{"00", strings.Repeat("G", 64), strings.Repeat("A", 64)}},
	} {
		data, err := seal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var list packList
		if unseal("garbage/x", data, &list) != nil {
			return
		}
		ids, err := list.ids("garbage/x")
		if err != nil {
			return
		}
		for i, s := range newPackList(ids).Packs {
			if s != strings.ToLower(list.Packs[i]) {
				t.Errorf("%q is taken for %q", list.Packs[i], s)
			}
		}
	})
}
