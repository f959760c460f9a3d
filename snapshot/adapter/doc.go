// Package adapter has no API: each source of a database is in a package of its own below it, so that a server
// compiles only the databases that it has. Begin with pebblesource.Open, boltsource.New or
// sqlitesource.New, and name what they return in snapshot.Config.Sources.
//
// The tests here run an engine over all of them at once.
package adapter
