// Package optools tests the handler of that name over documents in a Pebble database: the requests of
// OpTools' documentation, in order, against a server that is written to all the while.
package optools
