package admin

import (
	"context"
	"net/http"

	"stateproxy/proxy"
)

// lockStatus is the answer to /api/v1/lock.
type lockStatus struct {
	Version    int     `json:"version"`
	Session    string  `json:"session"`     // the hash that was asked for
	App        string  `json:"app"`         // application part, as the client sent it
	Backend    string  `json:"backend"`     // that has the session
	Locked     bool    `json:"locked"`      // what follows is 0 if it is not
	AgeSeconds float64 `json:"age_seconds"` // of the lock
	Lock       int64   `json:"lock"`        // tells the locks of one session apart; the action unlock wants it
}

// serveLock tells of the lock of a session. It asks the session's backend, as a
// page that reads the session does, and so is for those who may act.
func (a *Admin) serveLock(w http.ResponseWriter, r *http.Request) {
	o, ok := a.takeOrder(w, r, look)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), actionTimeout)
	defer cancel()
	l, err := a.Actions.Lock(ctx, o.session())
	if err != nil {
		refuseAction(w, err)
		return
	}
	writeJSON(w, http.StatusOK, lockStatusOf(o.session(), l))
}

func lockStatusOf(session uint64, l proxy.Lock) lockStatus {
	return lockStatus{
		Version: schemaVersion, Session: sessionHash(session), App: shortText(l.App), Backend: l.Backend,
		Locked: l.Held, AgeSeconds: l.Age.Seconds(), Lock: l.Cookie,
	}
}
