package pieces

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"net/http"
)

// maxField bounds each text that connect gives back, in bytes.
const maxField = 256

// application is the client's program as it tells of itself. What it leaves out is not known.
type application struct {
	Name         string `json:"name"`
	Version      string `json:"version"`
	Platform     string `json:"platform"`
	Privacy      string `json:"privacy"`
	Capabilities string `json:"capabilities,omitempty"`
}

// connectedApplication is the same with what the server adds.
type connectedApplication struct {
	ID string `json:"id"`
	application
	// Onboarded keeps clients from leading their users through an introduction to more than
	// there is here.
	Onboarded bool `json:"onboarded"`
}

// connection is a Context of Pieces OS: who is connected with whom.
type connection struct {
	OS          string               `json:"os"`
	Application connectedApplication `json:"application"`
	Health      serverHealth         `json:"health"`
}

type serverHealth struct {
	OS serverInfo `json:"os"`
}

type serverInfo struct {
	ID      string `json:"id"`
	Version string `json:"version"`
}

// connect says who the server is. Clients begin with it, and take the application's ID for a
// header of later calls. Nothing is kept: the ID is made from the application's name.
func (h *Handler) connect(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Application application `json:"application"`
	}
	if _, err := h.readBody(w, r, &body); err != nil {
		return err
	}
	app := body.Application
	for _, field := range []struct{ name, value string }{
		{"name", app.Name}, {"version", app.Version}, {"platform", app.Platform},
		{"privacy", app.Privacy}, {"capabilities", app.Capabilities},
	} {
		if len(field.value) > maxField {
			return badRequest("the application's %s has %d bytes, which is more than %d", field.name, len(field.value), maxField)
		}
	}
	app.Name, app.Version = cmp.Or(app.Name, statusUnknown), cmp.Or(app.Version, noVersion)
	app.Platform, app.Privacy = cmp.Or(app.Platform, statusUnknown), cmp.Or(app.Privacy, statusUnknown)
	server := h.serverID()
	return answer(w, connection{
		OS:          server,
		Application: connectedApplication{ID: uuidOf(server + "\x00" + app.Name), application: app, Onboarded: true},
		Health:      serverHealth{serverInfo{server, h.serverVersion()}},
	})
}

// version tells the version of the database, as text.
func (h *Handler) version(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(h.serverVersion()))
	return nil
}

func (h *Handler) serverVersion() string { return cmp.Or(h.engine.DatabaseVersion(), noVersion) }

// serverID is the same for all Handlers of a repository, and after a restart.
func (h *Handler) serverID() string { return uuidOf(h.engine.Repository().ID()) }

// uuidOf returns a UUID of version 8 (RFC 9562, section 5.8) that is made from a text.
func uuidOf(text string) string {
	sum := sha256.Sum256([]byte("holdstill pieces\x00" + text))
	b := sum[:16]
	b[6] = b[6]&0x0f | 0x80
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
