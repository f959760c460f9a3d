// Package arangodb tests the handler of snapshot/rest/arangodb with the official Go drivers, versions 1 and 2, and with
// the requests of the asynchronous Python driver. A real Pebble database is behind it, which is restored in place.
package arangodb
