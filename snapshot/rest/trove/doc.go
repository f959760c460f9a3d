// Package trove serves the backups of OpenStack Trove from a snapshot engine.
//
// [New] makes a [Handler], which is an http.Handler: hand it to an http.Server, and Close it
// before the engine. Tell it at least who is calling, with Options.Authenticate, and where
// its records are to be kept, with Options.Records. Trove's own clients, such as
// python-troveclient and "openstack database backup", work with it unchanged.
//
// # Routes
//
// All are below Options.BasePath.
//
//	GET    /                                          the versions there are
//	GET    /v1.0                                      the version
//	GET    /v1.0/openapi.json                         the description of these routes
//	GET    /v1.0/{project_id}/backups                 list; see below
//	POST   /v1.0/{project_id}/backups                 create, or record one of another region
//	GET    /v1.0/{project_id}/backups/{id}            show
//	DELETE /v1.0/{project_id}/backups/{id}            delete it with all that was made from it
//	GET    /v1.0/{project_id}/backup_strategies       list
//	POST   /v1.0/{project_id}/backup_strategies       create or change
//	DELETE /v1.0/{project_id}/backup_strategies       delete
//	GET    /v1.0/{project_id}/instances               the databases
//	POST   /v1.0/{project_id}/instances               restore a backup; see Options.Restore
//	GET    /v1.0/{project_id}/instances/{id}          one of them, or a restore under way
//	GET    /v1.0/{project_id}/instances/{id}/backups  list
//	GET    /v1.0/{project_id}/flavors                 one, which means nothing
//	GET    /v1.0/{project_id}/flavors/{id}            whichever is asked for
//
// The list takes instance_id, datastore, all_projects, project_id, limit and marker. A
// marker is how many to leave out, as in Trove.
//
// # Records and snapshots
//
// A backup is a snapshot and a record. The record has what a snapshot cannot have before it
// exists, or if it never comes to be: it is written first and its state follows the job
// that makes the snapshot. Everything in it is also in the snapshot's metadata, under names
// that begin with "trove.", so that a handler that has lost its records finds the finished
// backups again. What is deleted by other means is gone from the list too, and what came by
// a download is there.
//
// A backup is full or incremental in what it reads, never in what it needs: each can be
// restored without its parent. Deleting the parent deletes it all the same, as in Trove.
//
// Trove's size is that of the data, in GiB with two decimals, since it is compared with
// the volume to restore to. A swift_container is kept with the backup and has no effect on
// where it is stored.
//
// # State
//
// A backup is NEW, BUILDING, and then COMPLETED or FAILED; one that was under way when its
// process ended is FAILED. One made with restore_from is RESTORED from the start. One whose
// snapshot could not be deleted is DELETE_FAILED, and can be deleted again.
package trove
