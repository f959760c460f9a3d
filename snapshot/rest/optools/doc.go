// Package optools serves the backup routes of OpTools, the server of the Fabric Operations
// Console, and the routes of the transactions that its restores report through.
//
// Start with New, which returns an http.Handler for an engine that has a docsource.Source
// among its sources, and call Close before the engine's. A backup is a snapshot of all sources
// of the engine, whose ID is that of the backup. Its document is put together from the
// snapshot while it is sent, and a restore writes documents to the store, one by one, without
// deleting any.
//
// # Routes
//
// All of them below /api/v1, v2 and v3 for browser sessions, and below /ak/api/v1, v2 and v3
// for keys:
//
//	POST /backups                             start a backup: 202 with its ID, before it is done
//	GET  /backups                             the IDs of all backups that are complete
//	GET  /backups/{id}                        the document, attachments included; also while it is made
//	PUT  /backups                             start a restore of the document in the body: 202
//	PUT  /backups/{id}                        start a restore of a backup: 202
//	PUT  /backups/{id}/attachments/{name}     add data to a backup, also while it is made
//	GET  /webhooks                            transactions, pending ones first
//	GET  /webhooks/templates                  those that build a template
//	GET  /webhooks/txs/{id}                   one transaction, such as a restore
//	POST /webhooks/txs                        make one
//	PUT  /webhooks/txs/{id}                   say how it stands
//	POST /webhooks/txs/{id}                   a target for callbacks that ignores them; needs no login below /api
//
// and GET /openapi.json, which describes them.
//
// # Where it differs from the original
//
// A backup shows one moment, so that no document is in it twice. It is in the list when it is
// complete, and never before. An attachment that is added while the backup is made is kept,
// and goes only if the backup fails. Of two documents next to each other that a restore is to skip, both
// are skipped; a skip list that cannot be read is refused rather than ignored. A restore whose
// documents could not all be written ends as an error. A callback goes to the very URL that
// was asked for, if Options.Callbacks allow it, and as package webhook sends it: with no
// proxy, no redirect, a look at the address that is connected to, and signed where
// Options.CallbackSecret is set.
package optools
