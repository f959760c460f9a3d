package optools

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// failure is the answer to what failed. Which field has the reason depends on what did.
type failure struct {
	Code    int    `json:"statusCode"`
	Message string `json:"message,omitempty"`
	ID      string `json:"id,omitempty"`
	Msg     string `json:"msg,omitempty"`
	Details string `json:"details,omitempty"`
	Error   string `json:"error,omitempty"`
	Reason  string `json:"reason,omitempty"`
	// Valid lists the values that were possible.
	Valid []string  `json:"valid,omitempty"`
	Msgs  []string  `json:"msgs,omitempty"`
	Raw   []problem `json:"raw,omitempty"`
}

// problem is what is wrong with a parameter, for a program to read.
type problem struct {
	Key     string            `json:"key"`
	Symbols map[string]string `json:"symbols"`
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		// Only what clients sent as JSON is passed on, and all of that can be written.
		http.Error(w, "the answer cannot be written as JSON", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

func (rq *request) answer(status int, v any) { writeJSON(rq.w, status, v) }

// fail answers with a message.
func (rq *request) fail(status int, message string) {
	rq.answer(status, failure{Code: status, Message: message})
}

// missing answers as the database does for a document that is not there.
func (rq *request) missing() {
	rq.answer(http.StatusNotFound, failure{Code: http.StatusNotFound, Error: "not_found", Reason: "missing"})
}

// fields checks the parameters in a body that has the named ones alone, all strings: the
// first if required must be there. It answers where they are wrong. Version 1 checks types
// only.
func (rq *request) fields(required bool, names ...string) (map[string]string, bool) {
	var object map[string]json.RawMessage
	// The body was found to be an object when it was read.
	_ = json.Unmarshal(rq.body, &object)
	values := map[string]string{}
	answer := failure{Code: http.StatusBadRequest}
	wrong := func(name, key, message string) {
		answer.Msgs = append(answer.Msgs, message)
		answer.Raw = append(answer.Raw, problem{key, map[string]string{"$PROPERTY_NAME": name}})
	}
	for i, name := range names {
		raw, ok := object[name]
		if !ok {
			if required && i == 0 {
				wrong(name, "missing_required", fmt.Sprintf("Expected parameter '%s' to exist.", name))
			}
			continue
		}
		var text *string
		if err := json.Unmarshal(raw, &text); err != nil || text == nil {
			wrong(name, "invalid_data_type", fmt.Sprintf("Expected parameter '%s' to be a string.", name))
			continue
		}
		values[name] = *text
	}
	if rq.strict {
		for _, name := range slices.Sorted(maps.Keys(object)) {
			if !slices.Contains(names, name) {
				wrong(name, "no_extra_keys", fmt.Sprintf("Parameter '%s' is an unknown key for object.", name))
			}
		}
	}
	if len(answer.Msgs) == 0 {
		return values, true
	}
	if rq.keys {
		answer.Raw = nil
	}
	rq.answer(http.StatusBadRequest, answer)
	return nil, false
}

// milliseconds returns a time as OpTools writes it.
func milliseconds(t time.Time) int64 { return t.UnixMilli() }

// friendly returns a duration for people to read: one decimal and a unit.
func friendly(d time.Duration) string {
	ms := float64(d.Milliseconds())
	switch {
	case ms <= 0:
		return "0 secs"
	case ms > 24*60*60*1000:
		return fmt.Sprintf("%.1f days", ms/(24*60*60*1000))
	case ms > 60*60*1000:
		return fmt.Sprintf("%.1f hrs", ms/(60*60*1000))
	case ms > 60*1000:
		return fmt.Sprintf("%.1f mins", ms/(60*1000))
	case ms > 1000:
		return fmt.Sprintf("%.1f secs", ms/1000)
	}
	return fmt.Sprintf("%.1f ms", ms)
}

// window lets so many things through in any minute.
type window struct {
	mu sync.Mutex
	// past are the times of the last ones, a ring of which next is the oldest. It is empty if
	// there is no limit.
	past []time.Time
	next int
}

func newWindow(limit int) *window {
	return &window{past: make([]time.Time, max(limit, 0))}
}

// take lets one through, or returns in how many seconds it would.
func (w *window) take(now time.Time) (wait int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.past) == 0 {
		return 0, true
	}
	if oldest := w.past[w.next]; !oldest.IsZero() && now.Sub(oldest) < time.Minute {
		return int((time.Minute-now.Sub(oldest))/time.Second) + 1, false
	}
	w.past[w.next] = now
	w.next = (w.next + 1) % len(w.past)
	return 0, true
}
