package optools

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// The states of a transaction.
const (
	statusPending = "pending"
	statusError   = "error"
	statusSuccess = "success"
	statusUndoing = "undoing"
)

var validStatus = []string{statusPending, statusError, statusSuccess, statusUndoing}

// maxStep bounds the step that a message can be about, and so how many a transaction has.
const maxStep = 1000

// defaultTimeout is that of transactions which do not name one, in milliseconds.
const defaultTimeout = 180_000

// A transaction is something that takes time and is reported through the webhook routes. It
// is kept in the record in this form; clients see less of it.
type transaction struct {
	ID          string `json:"tx_id"`
	Description string `json:"description"`
	Status      string `json:"status"`
	By          string `json:"by"`
	UUID        string `json:"uuid"`
	SubType     string `json:"sub_type,omitempty"`
	// Messages has at each step's number what was said of that step, null if nothing.
	Messages []*string `json:"athena_messages"`
	// Started, Updated and Completed are in milliseconds since 1970; Completed is 0 before.
	Started   int64 `json:"ts_started"`
	Updated   int64 `json:"ts_last_updated"`
	Completed int64 `json:"ts_completed,omitempty"`
	// Timeout is how long it may be pending without a sign of life, in milliseconds.
	Timeout    int64             `json:"timeout_ms,omitempty"`
	OnStep     *int64            `json:"on_step,omitempty"`
	TotalSteps *int64            `json:"total_steps,omitempty"`
	Callback   string            `json:"client_webhook_url,omitempty"`
	Notes      []json.RawMessage `json:"notes,omitempty"`
	Original   json.RawMessage   `json:"original_template,omitempty"`
	Processed  json.RawMessage   `json:"processed_template,omitempty"`
	Channels   *channelWork      `json:"channel_work,omitempty"`
}

// channelWork is how far the channels of a template are.
type channelWork struct {
	Added    json.RawMessage            `json:"added2consortium,omitempty"`
	Channels map[string]json.RawMessage `json:"channels,omitempty"`
	Status   string                     `json:"status,omitempty"`
}

// shown is a transaction as clients see it.
type shown struct {
	transaction
	// These hide fields of the transaction.
	Timeout   struct{}        `json:"timeout_ms,omitzero"`
	Callback  struct{}        `json:"client_webhook_url,omitzero"`
	Original  json.RawMessage `json:"original_template,omitempty"`
	Processed json.RawMessage `json:"processed_template,omitempty"`
	Message   *string         `json:"message"`
}

// show returns what clients see: not the timeout, the callback's address, nor the templates.
func (t transaction) show() shown {
	s := shown{transaction: t}
	if n := len(t.Messages); n > 0 {
		s.Message = t.Messages[n-1]
	} else {
		s.Messages = []*string{}
	}
	return s
}

// template is a transaction that builds a template, as clients see it: with the templates.
type template struct {
	shown
	Original  json.RawMessage `json:"original_template,omitempty"`
	Processed json.RawMessage `json:"processed_template,omitempty"`
}

// final says whether the transaction has ended.
func (t *transaction) final() bool { return t.Status == statusSuccess || t.Status == statusError }

// expired says whether the transaction has been pending for too long.
func (t *transaction) expired(now int64) bool {
	return t.Status == statusPending && now-t.Updated >= t.Timeout
}

// edit is what a transaction is changed to. What is not set stays.
type edit struct {
	Status      string          `json:"status"`
	Message     string          `json:"athena_msg"`
	OnStep      *int64          `json:"on_step"`
	TotalSteps  *int64          `json:"total_steps"`
	Description string          `json:"description"`
	By          string          `json:"by"`
	Timeout     int64           `json:"timeout_ms"`
	Note        json.RawMessage `json:"note"`
	Original    json.RawMessage `json:"original_template"`
	Processed   json.RawMessage `json:"processed_template"`
	Channels    *channelWork    `json:"channel_work"`
}

func editError(message string) edit { return edit{Status: statusError, Message: message} }

// timedOut is the edit of a transaction that has expired.
func timedOut() edit { return editError("this transaction has timed out") }

// apply changes the transaction. The edit's status is a valid one.
func (t *transaction) apply(e edit, now int64) {
	t.Status = e.Status
	if t.Status == statusError && e.Message == "" {
		e.Message = "no error message was given"
	}
	if e.Message != "" {
		at := 0
		if t.OnStep != nil {
			at = int(min(max(*t.OnStep, 0), maxStep))
		}
		for len(t.Messages) <= at {
			t.Messages = append(t.Messages, nil)
		}
		t.Messages[at] = &e.Message
	}
	if e.TotalSteps != nil {
		t.TotalSteps = e.TotalSteps
	}
	if e.OnStep != nil {
		step := *e.OnStep
		if t.TotalSteps != nil {
			step = min(step, *t.TotalSteps)
		}
		t.OnStep = &step
	}
	setText(&t.Description, e.Description)
	setText(&t.By, e.By)
	if e.Timeout > 0 {
		t.Timeout = e.Timeout
	}
	if given(e.Note) {
		t.Notes = append(t.Notes, e.Note)
	}
	if given(e.Original) {
		t.Original = e.Original
	}
	if given(e.Processed) {
		t.Processed = e.Processed
	}
	if e.Channels != nil {
		t.applyChannels(e.Channels)
	}
	if t.final() {
		t.Completed = now
	}
	t.Updated = now
}

func (t *transaction) applyChannels(e *channelWork) {
	work := channelWork{Channels: map[string]json.RawMessage{}}
	if t.Channels != nil {
		work.Added, work.Status = t.Channels.Added, t.Channels.Status
		for name, c := range t.Channels.Channels {
			work.Channels[name] = c
		}
	}
	if given(e.Added) {
		work.Added = e.Added
	}
	setText(&work.Status, strings.ToLower(e.Status))
	for name, c := range e.Channels {
		work.Channels[name] = c
	}
	t.Channels = &work
}

func setText(field *string, value string) {
	if value != "" {
		*field = value
	}
}

// given says whether a field was sent and is not null.
func given(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// newTransactionID returns 32 random hexadecimal digits.
func newTransactionID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// censor hides who a caller is from others: of what stands before the @ the first and the
// last letter are left.
func censor(email string) string {
	if email == "" {
		return "-"
	}
	local, domain, found := strings.Cut(email, "@")
	letters := []rune(local)
	for i := range letters {
		if i > 0 && (i < len(letters)-1 || len(letters) == 2) {
			letters[i] = '*'
		}
	}
	if len(letters) == 1 {
		letters[0] = '*'
	}
	if !found {
		return string(letters)
	}
	return fmt.Sprintf("%s@%s", string(letters), domain)
}
