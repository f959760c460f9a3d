package repo

// collectFault leaves out one precaution of the protocol in FORMAT.md, "Collection". Tests set
// it to show that each is needed: without it, something is lost.
type collectFault int

const (
	faultNone collectFault = iota
	// Of collections.
	faultNoRescue      // they do not look at the snapshots again after the wait
	faultNoWait        // they do not wait for sessions that are older than the plan
	faultIgnorePlans   // they rely on packs that another plan condemns
	faultForgetBases   // they take what a difference is to for dead
	faultForgetHolders // and what one builds on that is not needed, but can be found
	faultDeleteFirst   // they delete packs before the index of what was moved is durable
	faultForgetEarly   // they forget a plan without waiting for late indexes
	faultKeepVerdicts  // manifests of sessions that were given up count all the same
	// Of sessions.
	faultNoClosing     // a commit does not ask whether the session was given up
	faultRelyCondemned // sessions rely on packs that are condemned
	faultRelyClosing   // they rely on indexes of a session that is being given up
	faultTrustParent   // they take over from a snapshot without looking for it
	faultMergeLate     // they merge indexes without asking whether they were given up
)
