package pieces

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// Entries of a snapshot's Metadata.
const (
	MetadataDevice   = "pieces.device_name"
	MetadataPlatform = "pieces.platform"
)

// noVersion is shown for a snapshot without a version of the database.
const noVersion = "0.0.0"

// timeLayout is how times are written: RFC 3339 in UTC, to the millisecond.
const timeLayout = "2006-01-02T15:04:05.000Z"

// An Asset is one of those that a client chose for a backup.
type Asset struct {
	// ID and Name are the asset's; Name may be empty.
	ID, Name string
	// Raw is all that the client sent, as JSON.
	Raw json.RawMessage
}

// UnmarshalJSON implements json.Unmarshaler. An asset without an ID is an error.
func (a *Asset) UnmarshalJSON(data []byte) error {
	var fields struct {
		ID   *string `json:"id"`
		Name string  `json:"name"`
	}
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	if fields.ID == nil || *fields.ID == "" {
		return fmt.Errorf("an asset without an id")
	}
	*a = Asset{ID: *fields.ID, Name: fields.Name, Raw: append(json.RawMessage(nil), data...)}
	return nil
}

type assetList struct {
	Iterable []Asset `json:"iterable"`
}

// backupRef is what is read of a Backup that a client sends.
type backupRef struct {
	ID        string `json:"id"`
	Version   string `json:"version"`
	Timestamp string `json:"timestamp"`
}

type groupedTimestamp struct {
	Value string `json:"value"`
}

type backup struct {
	ID         string           `json:"id"`
	Version    string           `json:"version"`
	Timestamp  string           `json:"timestamp"`
	Bytes      int64            `json:"bytes"`
	Created    groupedTimestamp `json:"created"`
	DeviceName string           `json:"device_name"`
	Platform   string           `json:"platform"`
}

type backupList struct {
	Iterable []backup       `json:"iterable"`
	Indices  map[string]int `json:"indices"`
}

type backupStatus struct {
	Backup     backup `json:"backup"`
	Value      string `json:"value"`
	Percentage int    `json:"percentage"`
}

type streamedProgress struct {
	Status     string  `json:"status"`
	Percentage *int    `json:"percentage,omitempty"`
	Backup     *backup `json:"backup,omitempty"`
}

type allProgress struct {
	Backups      []streamedProgress `json:"backups"`
	Restorations []streamedProgress `json:"restorations"`
}

var platforms = []string{"WEB", "MACOS", "LINUX", "WINDOWS", "FUCHSIA", "IOS", "ANDROID", "UNKNOWN"}

func platformOf(system string) string {
	switch system {
	case "linux":
		return "LINUX"
	case "darwin":
		return "MACOS"
	case "windows":
		return "WINDOWS"
	case "ios":
		return "IOS"
	case "android":
		return "ANDROID"
	case "js", "wasip1":
		return "WEB"
	}
	return "UNKNOWN"
}

// statusUnknown stands where there is nothing to tell of.
const statusUnknown = "UNKNOWN"

// valueOf names a job's state.
func valueOf(s transfer.State) string {
	switch s {
	case transfer.StateAck:
		return "INITIALIZED"
	case transfer.StateStarted:
		return "IN-PROGRESS"
	case transfer.StateCompleted:
		return "COMPLETED"
	case transfer.StateFailed:
		return "FAILED"
	case transfer.StateCancelled:
		return "CANCELED"
	}
	return statusUnknown
}

// percentageOf says how far a job is, from 0 to 100, which it has when it has completed and
// not before.
func percentageOf(s transfer.Status) int {
	if s.State == transfer.StateCompleted {
		return 100
	}
	p := s.Progress
	if p.BytesTotal <= 0 || p.BytesDone <= 0 {
		return 0
	}
	return int(min(float64(p.BytesDone)/float64(p.BytesTotal)*100, 99))
}

// describe returns a snapshot as a Backup. One that was made by this package is known by the
// UUID that is its label, and dated by the time in that.
func (h *Handler) describe(s *snapshot.Snapshot) backup {
	id, at := s.ID, s.Created
	if begun, ok := idTime(s.Label); ok {
		id, at = s.Label, begun
	}
	b := h.newBackup(id, s.DatabaseVersion, at, s.Stats.Bytes)
	if name := s.Metadata[MetadataDevice]; name != "" {
		b.DeviceName = name
	}
	for _, p := range platforms {
		if s.Metadata[MetadataPlatform] == p {
			b.Platform = p
		}
	}
	return b
}

// newBackup describes a backup made here.
func (h *Handler) newBackup(id, version string, at time.Time, bytes int64) backup {
	if version == "" {
		version = noVersion
	}
	stamp := at.UTC().Format(timeLayout)
	return backup{
		ID: id, Version: version, Timestamp: stamp, Bytes: bytes, Created: groupedTimestamp{stamp},
		DeviceName: h.opts.DeviceName, Platform: h.opts.Platform,
	}
}
