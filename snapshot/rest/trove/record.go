package trove

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// A state is where a backup stands.
type state string

const (
	stateNew          state = "NEW"
	stateBuilding     state = "BUILDING"
	stateCompleted    state = "COMPLETED"
	stateFailed       state = "FAILED"
	stateRestored     state = "RESTORED"
	stateDeleteFailed state = "DELETE_FAILED"
)

func (s state) running() bool { return s == stateNew || s == stateBuilding }

func (s state) valid() bool {
	switch s {
	case stateNew, stateBuilding, stateCompleted, stateFailed, stateRestored, stateDeleteFailed:
		return true
	}
	return false
}

// record is what is kept of a backup. Empty strings stand for what there is not.
type record struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	Project     string    `json:"project"`
	Instance    string    `json:"instance,omitempty"`
	Parent      string    `json:"parent,omitempty"`
	State       state     `json:"state"`
	Created     time.Time `json:"created"`
	Updated     time.Time `json:"updated"`
	// Size is in GiB. It has no meaning where Sized is not set.
	Size  float64 `json:"size,omitempty"`
	Sized bool    `json:"sized,omitempty"`
	// Location is the locationRef.
	Location  string    `json:"location,omitempty"`
	Driver    string    `json:"driver,omitempty"`
	Container string    `json:"container,omitempty"`
	Datastore Datastore `json:"datastore,omitzero"`
	// Repository and Snapshot are the IDs of where the data is. Job is the job that makes
	// it.
	Repository string `json:"repository,omitempty"`
	Snapshot   string `json:"snapshot,omitempty"`
	Job        string `json:"job,omitempty"`
}

// entry is a record in the book.
type entry struct {
	record
	// job makes the snapshot; nil if it is not known, or there is none.
	job *transfer.Job
}

// now returns the record as it stands: a job that has begun is one that builds.
func (e *entry) now() record {
	r := e.record
	if r.State == stateNew && e.job != nil {
		if s := e.job.Status(); !s.Started.IsZero() {
			r.State, r.Updated = stateBuilding, s.Started
		}
	}
	return r
}

// parseRecord reads a record as it is kept.
func parseRecord(data []byte) (record, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return r, err
	}
	if !isUUID(r.ID) {
		return r, fmt.Errorf("its ID %.40q is not a UUID", r.ID)
	}
	if !r.State.valid() {
		return r, fmt.Errorf("there is no state %.40q", r.State)
	}
	if math.IsNaN(r.Size) || math.IsInf(r.Size, 0) || r.Size < 0 {
		return r, fmt.Errorf("%v is not a size", r.Size)
	}
	return r, nil
}

// The metadata of a snapshot that is a backup.
const (
	metaPrefix    = "trove."
	metaID        = metaPrefix + "id"
	metaName      = metaPrefix + "name"
	metaProject   = metaPrefix + "project_id"
	metaInstance  = metaPrefix + "instance_id"
	metaParent    = metaPrefix + "parent_id"
	metaDriver    = metaPrefix + "storage_driver"
	metaContainer = metaPrefix + "swift_container"
	metaStore     = metaPrefix + "datastore"
	metaStoreID   = metaPrefix + "datastore_id"
	metaVersion   = metaPrefix + "datastore_version"
	metaVersionID = metaPrefix + "datastore_version_id"
)

// metadata returns what a snapshot is to keep of a backup.
func (r *record) metadata() map[string]string {
	m := map[string]string{metaID: r.ID, metaName: r.Name, metaProject: r.Project}
	for key, value := range map[string]string{
		metaInstance: r.Instance, metaParent: r.Parent, metaDriver: r.Driver, metaContainer: r.Container,
		metaStore: r.Datastore.Name, metaStoreID: r.Datastore.ID,
		metaVersion: r.Datastore.Version, metaVersionID: r.Datastore.VersionID,
	} {
		if value != "" {
			m[key] = value
		}
	}
	return m
}

// recordOf returns the record of a snapshot that metadata describes.
func recordOf(s *snapshot.Snapshot) record {
	m := s.Metadata
	return record{
		ID: m[metaID], Name: m[metaName], Description: s.Description, Project: m[metaProject],
		Instance: m[metaInstance], Parent: m[metaParent], Driver: m[metaDriver], Container: m[metaContainer],
		Datastore: Datastore{ID: m[metaStoreID], Name: m[metaStore], VersionID: m[metaVersionID], Version: m[metaVersion]},
		State:     stateCompleted, Created: s.Created, Updated: s.Created,
		Size: gibibytes(s.Stats.Bytes), Sized: true, Snapshot: s.ID,
	}
}

// gibibytes returns a size as Trove has it: rounded to two decimals, and nothing that is
// there is 0.
func gibibytes(n int64) float64 {
	if n <= 0 {
		return 0
	}
	return max(0.01, math.Round(float64(n)/(1<<30)*100)/100)
}

// timeLayout is Trove's: UTC without saying so.
const timeLayout = "2006-01-02T15:04:05"

func formatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// backupView is a backup in a response. What there is not is null.
type backupView struct {
	ID          string         `json:"id"`
	Name        string         `json:"name"`
	Description *string        `json:"description"`
	LocationRef *string        `json:"locationRef"`
	InstanceID  *string        `json:"instance_id"`
	Created     string         `json:"created"`
	Updated     string         `json:"updated"`
	Size        *float64       `json:"size"`
	Status      state          `json:"status"`
	ParentID    *string        `json:"parent_id"`
	ProjectID   string         `json:"project_id"`
	Driver      string         `json:"storage_driver"`
	Datastore   *datastoreView `json:"datastore,omitempty"`
}

type datastoreView struct {
	Type      string `json:"type"`
	Version   string `json:"version"`
	VersionID string `json:"version_id"`
}

func (r *record) view() backupView {
	v := backupView{
		ID: r.ID, Name: r.Name, Description: orNull(r.Description), LocationRef: orNull(r.Location),
		InstanceID: orNull(r.Instance), Created: formatTime(r.Created), Updated: formatTime(r.Updated),
		Status: r.State, ParentID: orNull(r.Parent), ProjectID: r.Project, Driver: r.Driver,
		Datastore: r.Datastore.view(),
	}
	if r.Sized {
		v.Size = &r.Size
	}
	return v
}

func (d Datastore) view() *datastoreView {
	if !d.known() {
		return nil
	}
	return &datastoreView{Type: d.Name, Version: d.Version, VersionID: d.VersionID}
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// lastPart returns what stands behind the last slash.
func lastPart(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }
