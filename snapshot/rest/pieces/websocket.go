package pieces

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// maxMessage bounds what a client sends on a WebSocket, in bytes. It is read and not used.
const maxMessage = 1 << 20

// wantsWebSocket reports whether a request asks to become a WebSocket.
func wantsWebSocket(r *http.Request) bool {
	return hasToken(r.Header, "Connection", "upgrade") && hasToken(r.Header, "Upgrade", "websocket")
}

func hasToken(header http.Header, key, token string) bool {
	for _, part := range strings.Split(strings.Join(header.Values(key), ","), ",") {
		if strings.EqualFold(strings.TrimSpace(part), token) {
			return true
		}
	}
	return false
}

// webSocket turns a request into a WebSocket, starts the work, and sends one message for each
// change of what its view shows. The server closes it after the last one. Work goes on
// when the client leaves.
//
// Nothing is started for a page of another origin: the handshake is refused before.
func (h *Handler) webSocket(w http.ResponseWriter, r *http.Request, start func(context.Context) (<-chan struct{}, view, error)) error {
	patient(w)
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{OriginPatterns: h.opts.Origins})
	if err != nil {
		// It has answered by itself.
		return nil
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxMessage)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	// What the client sends must be read for its pings and its close to be seen. A context
	// that ends would break the connection off, which CloseNow does when all is said.
	var reading sync.WaitGroup
	reading.Go(func() {
		defer cancel()
		for {
			_, message, err := conn.Reader(context.WithoutCancel(ctx))
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, message); err != nil {
				return
			}
		}
	})
	to := &messages{conn: conn}
	defer reading.Wait()
	defer to.pings.Wait()
	defer conn.CloseNow()
	done, look, err := start(ctx)
	if err == nil {
		err = h.follow(ctx, to, done, look)
	}
	if err != nil {
		_ = conn.Close(websocket.StatusInternalError, shorten(err.Error(), 120))
		return nil
	}
	_ = conn.Close(websocket.StatusNormalClosure, "")
	return nil
}

// shorten cuts a text to n bytes, between two characters: the reason of a close has little room.
func shorten(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// messages is a sink that is a WebSocket.
type messages struct {
	conn *websocket.Conn
	// pings has the one that waits for its answer, if there is one, and pinging says so.
	pings   sync.WaitGroup
	pinging atomic.Bool
}

func (m *messages) begin() error { return nil }

func (m *messages) send(ctx context.Context, message []byte, _ bool) error {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	return m.conn.Write(ctx, websocket.MessageText, message)
}

// alive sends a ping unless one is under way. Nobody waits for the answer: messages go on
// meanwhile, and the last one too. Without an answer the connection is broken off.
func (m *messages) alive(ctx context.Context) error {
	if m.pinging.Swap(true) {
		return nil
	}
	m.pings.Go(func() {
		defer m.pinging.Store(false)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTime)
		defer cancel()
		if m.conn.Ping(ctx) != nil {
			m.conn.CloseNow()
		}
	})
	return nil
}
