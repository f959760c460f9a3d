package repo

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// The objects below garbage/:
//
//	session-<session>.closing   a collection is giving the session up
//	session-<session>.verdict   it did: only the snapshots named there count
//	session-<session>.deleted   those do not count any more either
//	plan-<plan>                 packs that are condemned: sessions must not rely on them
//	plan-<plan>.wait            the sessions to wait for before they are deleted
//	plan-<plan>.final           those of them that are deleted
//	plan-<plan>.clean<n>        the sessions to wait for before the plan is forgotten
//
// The first three stay for ever, one set for each session that was given up; the others
// go when the plan is done. All are created under the condition that the key is free, and
// never changed. All names are random and never used again.

const (
	closingSuffix = ".closing"
	verdictSuffix = ".verdict"
	deletedSuffix = ".deleted"
	waitSuffix    = ".wait"
	finalSuffix   = ".final"
	cleanSuffix   = ".clean"

	sessionGarbage = garbagePrefix + "session-"
	planGarbage    = garbagePrefix + "plan-"

	maxClosingSize = 1 << 20
	maxVerdictSize = 1 << 20
	// maxPlanSize bounds a list of packs or sessions in bytes; see maxPlanPacks.
	maxPlanSize = 64 << 20
	// maxPlanPacks is how many packs one plan condemns at most.
	maxPlanPacks = 256 << 10
)

func closingKey(id sessionID) string { return sessionGarbage + id.String() + closingSuffix }
func verdictKey(id sessionID) string { return sessionGarbage + id.String() + verdictSuffix }
func deletedKey(id sessionID) string { return sessionGarbage + id.String() + deletedSuffix }

// planID names a plan of a collection.
type planID [16]byte

func (id planID) String() string { return hex.EncodeToString(id[:]) }
func planKey(id planID) string   { return planGarbage + id.String() }

// garbageView is what a listing of garbage/ shows.
type garbageView struct {
	closing, verdicts, deleted map[sessionID]bool
	// plans has the suffixes of each plan's objects; the plan itself is the empty one.
	plans map[planID]map[string]bool
}

// listGarbage lists garbage/. What is not understood is left out.
func (r *Repository) listGarbage(ctx context.Context) (*garbageView, error) {
	v := &garbageView{
		closing: map[sessionID]bool{}, verdicts: map[sessionID]bool{}, deleted: map[sessionID]bool{},
		plans: map[planID]map[string]bool{},
	}
	err := r.store.list(ctx, garbagePrefix, func(o object) error {
		v.add(o.key)
		return nil
	})
	return v, err
}

func (v *garbageView) add(key string) {
	if name, ok := strings.CutPrefix(key, sessionGarbage); ok {
		name, suffix, _ := strings.Cut(name, ".")
		id, ok := parseSessionID(name)
		set := map[string]map[sessionID]bool{closingSuffix: v.closing, verdictSuffix: v.verdicts, deletedSuffix: v.deleted}["."+suffix]
		if ok && set != nil {
			set[id] = true
		}
		return
	}
	name, ok := strings.CutPrefix(key, planGarbage)
	if !ok {
		return
	}
	name, suffix, dotted := strings.Cut(name, ".")
	var id planID
	if len(name) != 2*len(id) {
		return
	}
	if _, err := hex.Decode(id[:], []byte(name)); err != nil || id.String() != name {
		return
	}
	if dotted {
		suffix = "." + suffix
	}
	if v.plans[id] == nil {
		v.plans[id] = make(map[string]bool)
	}
	v.plans[id][suffix] = true
}

// packList is the document of a plan, and of what it comes to in the end.
type packList struct {
	Packs []string `json:"packs"`
}

func newPackList(packs []packID) packList {
	out := packList{Packs: make([]string, len(packs))}
	for i, p := range packs {
		out.Packs[i] = p.String()
	}
	return out
}

func (l packList) ids(object string) ([]packID, error) {
	out := make([]packID, len(l.Packs))
	for i, s := range l.Packs {
		if n, err := hex.Decode(out[i][:], []byte(s)); err != nil || n != len(out[i]) || len(s) != 64 {
			return nil, corrupt(object, "%q is not the ID of a pack", clip([]byte(s)))
		}
	}
	return out, nil
}

// sessionList is the document of those that a plan waits for.
type sessionList struct {
	Sessions []string `json:"sessions"`
}

// readDocument reads a sealed object below garbage/.
func (r *Repository) readDocument(ctx context.Context, key string, limit int64, v any) error {
	data, err := r.store.readAll(ctx, key, limit)
	if err != nil {
		return err
	}
	return unseal(key, data, v)
}

// createDocument creates a sealed object; errKeyExists means that somebody else has.
func (r *Repository) createDocument(ctx context.Context, key string, v any) error {
	data, err := seal(v)
	if err != nil {
		return err
	}
	return r.store.create(ctx, key, data)
}

// planCache keeps the lists of packs of open plans, which do not change. It is safe for
// concurrent use.
type planCache struct {
	mu    sync.Mutex
	plans map[planID][]packID
}

// condemned returns all packs of the plans that a view shows, but for those of one plan.
// A plan that is gone by now is done.
func (r *Repository) condemned(ctx context.Context, v *garbageView, except planID) (map[packID]bool, error) {
	out := make(map[packID]bool)
	for id, objects := range v.plans {
		if id == except || !objects[""] {
			continue
		}
		packs, err := r.planPacks(ctx, id)
		if errors.Is(err, errKeyMissing) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, p := range packs {
			out[p] = true
		}
	}
	r.plans.mu.Lock()
	defer r.plans.mu.Unlock()
	maps.DeleteFunc(r.plans.plans, func(id planID, _ []packID) bool { return v.plans[id] == nil })
	return out, nil
}

// planPacks returns the packs that a plan condemns.
func (r *Repository) planPacks(ctx context.Context, id planID) ([]packID, error) {
	r.plans.mu.Lock()
	packs, ok := r.plans.plans[id]
	r.plans.mu.Unlock()
	if ok {
		return packs, nil
	}
	packs, err := r.readPackList(ctx, planKey(id))
	if err != nil {
		return nil, err
	}
	r.plans.mu.Lock()
	defer r.plans.mu.Unlock()
	if r.plans.plans == nil {
		r.plans.plans = make(map[planID][]packID)
	}
	r.plans.plans[id] = packs
	return packs, nil
}

// readPackList reads a plan, or what it comes to in the end.
func (r *Repository) readPackList(ctx context.Context, key string) ([]packID, error) {
	var list packList
	err := r.readDocument(ctx, key, maxPlanSize, &list)
	if err == nil {
		var packs []packID
		if packs, err = list.ids(key); err == nil {
			return packs, nil
		}
	}
	return nil, planError(err)
}

// planError adds to the error of an object that belongs to a plan what to do.
func planError(err error) error {
	if errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("repo: packs that a collection deletes: %w; RebuildIndex forgets what cannot be read of collections", err)
	}
	return err
}

// verdict says which snapshots of a session that was given up count.
type verdict struct {
	Snapshots []string `json:"snapshots"`
}

func (v verdict) keeps(id string) bool { return slices.Contains(v.Snapshots, id) }

// decide settles which snapshots of a session count: those given, unless somebody else
// has decided before. It returns what holds.
func (r *Repository) decide(ctx context.Context, id sessionID, snapshots []string) (verdict, error) {
	mine := verdict{Snapshots: append([]string{}, snapshots...)}
	err := r.createDocument(ctx, verdictKey(id), mine)
	if err == nil {
		return mine, nil
	}
	// A failed create may have taken effect, or do so later: only what is read counts.
	var there verdict
	if readErr := r.readDocument(ctx, verdictKey(id), maxVerdictSize, &there); readErr != nil {
		return verdict{}, errors.Join(err, readErr)
	}
	return there, nil
}

// counts says whether a manifest of a session counts: whether the session ended by
// itself, or was found to have written it.
func (r *Repository) counts(ctx context.Context, session, snapshot string) (bool, error) {
	id, ok := parseSessionID(session)
	if !ok {
		return true, nil // written before there were leases
	}
	if r.ended.has(id) || r.collectFault == faultKeepVerdicts {
		return true, nil
	}
	var v verdict
	err := r.readDocument(ctx, verdictKey(id), maxVerdictSize, &v)
	switch {
	case errors.Is(err, errKeyMissing):
		return true, nil
	case err != nil:
		return false, err
	case !v.keeps(snapshot):
		return false, nil
	}
	_, err = r.store.readAll(ctx, deletedKey(id), maxVerdictSize)
	if errors.Is(err, errKeyMissing) {
		return true, nil
	}
	return false, err
}
