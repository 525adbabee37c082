// Package farm simulates a farm of IIS worker processes in front of a state
// server. It sends what System.Web sends, believes what System.Web believes of
// each answer (protocol.md section 8), and beside that keeps the truth about
// every session, so that any damage done on the way is found and named: lost
// sessions, lost updates, stale reads, foreign and damaged bodies, locks given
// twice, sessions risen from the dead.
//
//	f, err := farm.New(farm.Config{Targets: []string{"127.0.0.1:42424"}, Duration: time.Minute})
//	err = f.Fill(ctx)   // one session for every browser
//	err = f.Run(ctx)    // pages until ctx ends or Duration is over
//	err = f.Verify(ctx) // read every session once more
//	fmt.Print(f.Report().Text())
//
// The truth is exact under concurrency. Each exchange has a beginning and an
// end in the session's own order of events; what an answer may show follows
// from these intervals alone, never from clocks. A save whose outcome nobody
// learned may show up at any later time or never. Only expiry is judged by the
// clock, with a margin.
//
// It is left to the caller to say which sessions died with their server
// (Farm.Excuse), and what to do about the report.
package farm
