// Package trove tests the handler of snapshot/rest/trove with OpenStack's own clients: the
// library troveclient, and the commands "openstack database backup". A real Pebble database
// is behind it. The clients are Debian's; .ci/install-clients installs them.
package trove
