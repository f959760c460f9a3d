package trove

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// strategyKey is what a strategy is for. An empty instance is the whole project.
type strategyKey struct{ project, instance string }

// strategy is a backup strategy, in a response and in the store.
type strategy struct {
	Project   string `json:"project_id"`
	Instance  string `json:"instance_id"`
	Backend   string `json:"backend"`
	Container string `json:"swift_container"`
}

func (h *Handler) loadStrategies(ctx context.Context) error {
	data, err := h.store.read(ctx, strategiesKey)
	if err != nil || data == nil {
		return err
	}
	var all []strategy
	if err := json.Unmarshal(data, &all); err != nil {
		return fmt.Errorf("trove: %s cannot be read, put it right or remove it: %w", strategiesKey, err)
	}
	for _, s := range all {
		h.strategies[strategyKey{s.Project, s.Instance}] = s
	}
	return nil
}

// changeStrategies changes the strategies and keeps them, or leaves them as they were.
func (h *Handler) changeStrategies(ctx context.Context, change func(map[strategyKey]strategy)) error {
	// One after the other, so that what is kept last is the newest.
	h.syncMu.Lock()
	defer h.syncMu.Unlock()
	next := make(map[strategyKey]strategy)
	h.mu.Lock()
	for key, s := range h.strategies {
		next[key] = s
	}
	h.mu.Unlock()
	change(next)
	if err := h.store.put(ctx, strategiesKey, sortedStrategies(next, func(strategy) bool { return true })); err != nil {
		return err
	}
	h.mu.Lock()
	h.strategies = next
	h.mu.Unlock()
	return nil
}

func sortedStrategies(all map[strategyKey]strategy, wanted func(strategy) bool) []strategy {
	out := []strategy{}
	for _, s := range all {
		if wanted(s) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b strategy) int {
		return cmp.Or(strings.Compare(a.Project, b.Project), strings.Compare(a.Instance, b.Instance))
	})
	return out
}

// container returns the container for a backup whose request has none.
func (h *Handler) container(project, instance string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s, ok := h.strategies[strategyKey{project, instance}]; ok {
		return s.Container
	}
	return h.strategies[strategyKey{project, ""}].Container
}

// strategyScope returns what a request's query is about, if the policy allows it.
func (h *Handler) strategyScope(r *request, rule string) (strategyKey, error) {
	key := strategyKey{r.project, strings.ToLower(r.URL.Query().Get("instance_id"))}
	if project := r.URL.Query().Get("project_id"); project != "" {
		key.project = project
	}
	return key, h.allow(r, rule, key.project)
}

func (h *Handler) listStrategies(r *request) (int, any, error) {
	key, err := h.strategyScope(r, "backup_strategy:index")
	if err != nil {
		return 0, nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	found := sortedStrategies(h.strategies, func(s strategy) bool {
		return s.Project == key.project && (key.instance == "" || s.Instance == key.instance)
	})
	return http.StatusOK, map[string]any{"backup_strategies": found}, nil
}

func (h *Handler) createStrategy(r *request) (int, any, error) {
	if err := h.allow(r, "backup_strategy:create", r.project); err != nil {
		return 0, nil, err
	}
	body, err := readBody(r, "backup_strategy")
	if err != nil {
		return 0, nil, err
	}
	body.need("swift_container")
	s := strategy{Project: r.project, Backend: "swift", Container: body.name("swift_container")}
	if body.fields["instance_id"] != "" {
		s.Instance = body.uuid("instance_id")
	}
	if err := body.err(); err != nil {
		return 0, nil, err
	}
	if s.Instance != "" {
		instance, err := h.instance(r, s.Instance)
		if err != nil {
			return 0, nil, err
		}
		s.Instance = instance.ID
	}
	err = h.changeStrategies(r.Context(), func(all map[strategyKey]strategy) {
		all[strategyKey{s.Project, s.Instance}] = s
	})
	if err != nil {
		return 0, nil, err
	}
	return http.StatusAccepted, map[string]any{"backup_strategy": s}, nil
}

// deleteStrategy serves DELETE backup_strategies. Deleting what is not there is fine.
func (h *Handler) deleteStrategy(r *request) (int, any, error) {
	key, err := h.strategyScope(r, "backup_strategy:delete")
	if err != nil {
		return 0, nil, err
	}
	err = h.changeStrategies(r.Context(), func(all map[strategyKey]strategy) { delete(all, key) })
	if err != nil {
		return 0, nil, err
	}
	return http.StatusAccepted, nil, nil
}
