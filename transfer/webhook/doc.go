// Package webhook tells an HTTP server that a job has ended, or of anything else.
//
// Start with [New], give [Sender.OnFinish] to transfer.JobsOptions.OnFinish or
// snapshot.Config.OnJobFinish, and [Sender.Watch] a single job with a URL of its own. The
// body is the transfer.Status as JSON. [Sender.Post] sends any other value.
//
// Requests are signed as https://www.standardwebhooks.com specifies: the headers
// webhook-id, webhook-timestamp and webhook-signature, of which the last is "v1," and the
// base64 of the HMAC-SHA256 of id, timestamp and body with dots between. [Verify] checks them.
// A delivery that is tried again keeps its id, so that a receiver can tell.
//
// URLs that come with a request to a server must not become a way into its network: they
// must be on Options.Allow, redirects are not followed, proxies are not used, and the address that
// is connected to is looked at, not only the name.
//
// What waits to be delivered is in memory, and lost when the process ends: a receiver that
// must know asks for the job's status.
package webhook
