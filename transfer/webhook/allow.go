package webhook

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strings"
)

// ErrNotAllowed means that a URL, or the address that its name stands for, is not on the
// allow-list.
var ErrNotAllowed = errors.New("webhook: not on the allow-list")

// allowList says where requests may go.
type allowList struct {
	nets []netip.Prefix
	// reach are networks that names may stand for, and that allow no URL by themselves.
	reach    []netip.Prefix
	hosts    []string // host, host:port or *.domain
	prefixes []*url.URL
}

// parseAllow reads Options.Allow and Options.Networks. Its errors show no entry, which may be
// a secret, only where it is.
func parseAllow(entries, networks []string) (*allowList, error) {
	a := &allowList{}
	for n, entry := range networks {
		net, ok := parseNetwork(entry)
		if !ok {
			return nil, fmt.Errorf("webhook: Networks[%d] is no network such as 10.0.0.0/8, and no address", n)
		}
		a.reach = append(a.reach, net)
	}
	for n, entry := range entries {
		if net, ok := parseNetwork(entry); ok {
			a.nets = append(a.nets, net)
			continue
		}
		if strings.Contains(entry, "://") {
			u, err := parseURL(entry)
			if err != nil || u.RawQuery != "" {
				return nil, fmt.Errorf("webhook: Allow[%d] is no beginning of a URL: it needs http:// or https:// and a host, and has no user, query or fragment", n)
			}
			a.prefixes = append(a.prefixes, u)
			continue
		}
		u, err := url.Parse("https://" + strings.TrimPrefix(entry, "*."))
		if err != nil || u.Hostname() == "" || u.Host != strings.TrimPrefix(entry, "*.") || strings.ContainsAny(u.Host, "*/[]") {
			return nil, fmt.Errorf("webhook: Allow[%d] cannot be read: write a host, host:port, *.domain, an address, a network such as 10.0.0.0/8, or the beginning of a URL", n)
		}
		a.hosts = append(a.hosts, strings.ToLower(entry))
	}
	return a, nil
}

// parseNetwork reads a network, or an address, which is a network of one.
func parseNetwork(entry string) (netip.Prefix, bool) {
	if net, err := netip.ParsePrefix(entry); err == nil {
		return net.Masked(), true
	}
	ip, err := netip.ParseAddr(entry)
	if err != nil || ip.Zone() != "" {
		return netip.Prefix{}, false
	}
	ip = ip.Unmap()
	return netip.PrefixFrom(ip, ip.BitLen()), true
}

// parseURL reads a URL that requests could go to.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		// The error of package url shows the URL, which may be a secret.
		return nil, fmt.Errorf("%w: it is no URL", ErrNotAllowed)
	case u.Scheme != "https" && u.Scheme != "http", u.Hostname() == "", u.Opaque != "":
		return nil, fmt.Errorf("%w: a URL of a webhook begins with https:// and a host", ErrNotAllowed)
	case u.User != nil:
		return nil, fmt.Errorf("%w: a URL of a webhook has no user name or password", ErrNotAllowed)
	case u.Fragment != "":
		return nil, fmt.Errorf("%w: a URL of a webhook has no fragment, which would not be sent", ErrNotAllowed)
	}
	return u, nil
}

// target is a URL that may be asked, as far as its address may be connected to.
type target struct {
	url *url.URL
	// named: the list names it, not only a network. trusted: the operator gave it.
	named, trusted bool
}

// check says whether requests to a URL may be tried.
func (a *allowList) check(text string) (target, error) {
	u, err := parseURL(text)
	if err != nil {
		return target{}, err
	}
	t := target{url: u}
	for _, p := range a.prefixes {
		if p.Scheme == u.Scheme && strings.EqualFold(hostPort(p), hostPort(u)) && below(p.Path, u) {
			t.named = true
			return t, nil
		}
	}
	if u.Scheme != "https" && !a.covers(u.Hostname()) {
		return t, fmt.Errorf("%w: %s is asked without TLS, for which the list must have the beginning of the URL or the address", ErrNotAllowed, u.Host)
	}
	for _, h := range a.hosts {
		if matchHost(h, u) {
			t.named = true
			return t, nil
		}
	}
	// It may be a name of an address in a network of the list, which dialling shows.
	if len(a.nets) == 0 {
		return t, fmt.Errorf("%w: %s", ErrNotAllowed, u.Host)
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && !within(a.nets, ip) {
		return t, fmt.Errorf("%w: %s", ErrNotAllowed, u.Host)
	}
	return t, nil
}

// covers says whether a host is an address of the list.
func (a *allowList) covers(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && within(a.nets, ip)
}

func within(nets []netip.Prefix, ip netip.Addr) bool {
	ip = ip.Unmap()
	for _, net := range nets {
		if net.Contains(ip) {
			return true
		}
	}
	return false
}

// dial says whether an address may be connected to for a target.
func (a *allowList) dial(t target, ip netip.Addr) error {
	if t.trusted || within(a.nets, ip) {
		return nil
	}
	// An address that the list itself has in a URL is meant, public or not.
	written, err := netip.ParseAddr(t.url.Hostname())
	if t.named && (public(ip) || within(a.reach, ip) || err == nil && written.Unmap() == ip.Unmap()) {
		return nil
	}
	return fmt.Errorf("%w: %s stands for the address %s, which is not public or not in a network of the list", ErrNotAllowed, t.url.Hostname(), ip)
}

// below says whether the path of a URL is a prefix, by whole parts, or lies below it. Both are
// cleaned first, since servers do that as well.
func below(prefix string, u *url.URL) bool {
	if strings.Contains(u.Path, "\\") {
		return false
	}
	prefix = strings.TrimSuffix(path.Clean("/"+prefix), "/")
	if prefix == "" {
		return true
	}
	// What these stand for might part the path for one server and not for another.
	escaped := strings.ToLower(u.EscapedPath())
	for _, e := range []string{"%2e", "%2f", "%25"} {
		if strings.Contains(escaped, e) {
			return false
		}
	}
	clean := path.Clean("/" + u.Path)
	return clean == prefix || strings.HasPrefix(clean, prefix+"/")
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return u.Hostname() + ":" + port
}

// matchHost compares a host of the list, which means the port of https if it has none.
func matchHost(entry string, u *url.URL) bool {
	got := strings.ToLower(hostPort(u))
	domain, wild := strings.CutPrefix(entry, "*.")
	if !strings.Contains(domain, ":") {
		domain += ":443"
	}
	if _, err := netip.ParseAddr(u.Hostname()); wild && err == nil {
		return false // an address has no domain
	}
	if wild {
		return strings.HasSuffix(got, "."+domain)
	}
	return got == domain
}

// special are networks that are not the public internet, though they look like unicast. From
// the registries of IANA (RFC 6890).
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("fec0::/10"), netip.MustParsePrefix("::/96"),
}

// public says whether an address is one of the public internet.
func public(ip netip.Addr) bool {
	ip = ip.Unmap()
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() {
		return false
	}
	for _, net := range special {
		if net.Contains(ip) {
			return false
		}
	}
	return true
}
