package admin

import (
	"cmp"
	"encoding/json"
	"slices"

	"stateproxy/internal/xray"
)

// maxStreamApps is how many applications the live stream tells of.
const maxStreamApps = 12

// sessionsStatus is what the live stream tells of sessions: what
// /api/v1/sessions answers, but of the applications that are used most.
type sessionsStatus struct {
	xray.Report
	LeftOut int `json:"left_out"` // applications
}

// sessions returns it as JSON; nil if nothing is known of sessions, or if it
// holds a value that JSON can't say.
func (a *Admin) sessions() json.RawMessage {
	if a.XRay == nil {
		return nil
	}
	st := sessionsStatus{Report: a.XRay.Report()}
	if left := len(st.Apps) - maxStreamApps; left > 0 {
		slices.SortStableFunc(st.Apps, func(a, b xray.App) int { return cmp.Compare(rateOf(&b), rateOf(&a)) })
		st.Apps, st.LeftOut = st.Apps[:maxStreamApps], left
	}
	b, err := json.Marshal(st)
	if err != nil {
		return nil
	}
	return b
}

// rateOf adds up the rates of all operations.
func rateOf(a *xray.App) (sum float64) {
	for _, op := range a.Ops {
		sum += op.Rate
	}
	return sum
}
