package transfer

import (
	"maps"
	"time"
)

// Kind says what a job does.
type Kind string

// The kinds of jobs.
const (
	KindUpload   Kind = "upload"
	KindDownload Kind = "download"
	KindCreate   Kind = "create"
	KindRestore  Kind = "restore"
	KindCollect  Kind = "collect"
	KindCheck    Kind = "check"
	KindDelete   Kind = "delete"
)

// State says where a job stands.
type State string

// The states of a job. It begins as StateAck, waits there for its turn, is started, and
// ends in one of the last three, for good.
const (
	StateAck       State = "ACK"
	StateStarted   State = "STARTED"
	StateCompleted State = "COMPLETED"
	StateFailed    State = "FAILED"
	StateCancelled State = "CANCELLED"
)

// Final reports whether a job in this state has ended.
func (s State) Final() bool {
	return s == StateCompleted || s == StateFailed || s == StateCancelled
}

// SingleServer is the name under which Status.Servers has a server that is not part of
// a cluster.
const SingleServer = "SNGL"

// Progress tells how far a job is. Sizes are in bytes. What is not known, or makes no
// sense for the kind of job, is zero; totals are zero until they are known.
type Progress struct {
	// Phase says what the job is busy with, in the words of its kind.
	Phase string `json:"phase,omitempty"`
	// BytesDone and BytesTotal count files' data before compression. What needed no work,
	// such as what the destination had already, counts as done.
	BytesDone  int64 `json:"bytesDone"`
	BytesTotal int64 `json:"bytesTotal"`
	// FilesDone and FilesTotal count files.
	FilesDone  int64 `json:"filesDone"`
	FilesTotal int64 `json:"filesTotal"`
	// PacksDone and PacksTotal count the packs that are read.
	PacksDone  int64 `json:"packsDone,omitempty"`
	PacksTotal int64 `json:"packsTotal,omitempty"`
	// BytesSent is what was written to the destination, as it is stored. BytesToSend is
	// what it will be at the end, about.
	BytesSent   int64 `json:"bytesSent"`
	BytesToSend int64 `json:"bytesToSend,omitempty"`
	// Retries is how many requests were made again because the store failed.
	Retries int64 `json:"retries,omitempty"`
	// Elapsed is the time since the job started, in nanoseconds in the stored form.
	Elapsed time.Duration `json:"elapsedNanoseconds"`
	// Rate is how fast the job was of late, in bytes a second: of what is sent, where
	// BytesToSend is known, else of BytesDone. A Job fills it in.
	Rate float64 `json:"rate,omitempty"`
	// Left is the estimate of the time that is left. A Job fills it in.
	Left time.Duration `json:"leftNanoseconds,omitempty"`
}

// work returns what rate and time left are estimated from.
func (p *Progress) work() (done, total int64) {
	if p.BytesToSend > 0 {
		return p.BytesSent, p.BytesToSend
	}
	return p.BytesDone, p.BytesTotal
}

// ServerStatus is how far a job is on one server.
type ServerStatus struct {
	State    State     `json:"state"`
	Progress Progress  `json:"progress"`
	Error    string    `json:"error,omitempty"`
	Kind     ErrorKind `json:"errorKind,omitempty"`
	// Updated is when this was last true.
	Updated time.Time `json:"updated"`
}

// Status is all that is known of a job. It is a copy: changing it changes nothing.
type Status struct {
	// ID names the job: decimal digits, never used again by the same folder of records.
	// Jobs of all kinds share one row of numbers.
	ID string `json:"id"`
	// Kind is what the job does.
	Kind Kind `json:"kind"`
	// State is where it stands.
	State State `json:"state"`
	// Snapshot is the ID of the snapshot concerned. A job that makes one has it at the end.
	Snapshot string `json:"snapshot,omitempty"`
	// Location is the other repository of an upload or download, or the target of a
	// restore. It never holds a secret.
	Location string `json:"location,omitempty"`
	// Progress is that of the whole job.
	Progress Progress `json:"progress"`
	// Servers has the state of each server that takes part, by name; SingleServer where
	// there is one.
	Servers map[string]ServerStatus `json:"servers"`
	// Error is the message of a job that failed or was cancelled, and ErrorKind what it
	// is about.
	Error     string    `json:"error,omitempty"`
	ErrorKind ErrorKind `json:"errorKind,omitempty"`
	// Reencoded is set when chunks could not travel as they are stored, since the two
	// repositories name them differently.
	Reencoded bool `json:"reencoded,omitempty"`
	// Details are what else the job has to say, such as the "previous" of a restore.
	Details map[string]string `json:"details,omitempty"`
	// Created, Started and Finished are when the job was asked for, began and ended, in
	// UTC. Zero if it has not.
	Created  time.Time `json:"created"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
}

// Resumable reports whether the same job, started again, goes on from what this one
// has done: a transfer that failed or was cancelled.
func (s *Status) Resumable() bool {
	return (s.Kind == KindUpload || s.Kind == KindDownload) && s.State.Final() && s.State != StateCompleted
}

// clone returns a copy that shares nothing with s.
func (s *Status) clone() Status {
	out := *s
	out.Servers = maps.Clone(s.Servers)
	out.Details = maps.Clone(s.Details)
	return out
}
