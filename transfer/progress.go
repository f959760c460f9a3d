package transfer

import (
	"time"
)

// The phases of a copy.
const (
	phaseSend   = "send"
	phaseVerify = "verify"
	phaseCommit = "commit"
)

// progressInterval is the shortest time between two reports.
const progressInterval = 100 * time.Millisecond

// enter begins a phase and reports it.
func (c *copying) enter(phase string) {
	c.mu.Lock()
	c.phase = phase
	c.mu.Unlock()
	c.report(true)
}

// report calls Options.Progress, if the last time is long enough ago or always is set.
func (c *copying) report(always bool) {
	if c.opts.Progress == nil {
		return
	}
	now, due := int64(time.Since(c.start)), c.next.Load()
	if !always && (now < due || !c.next.CompareAndSwap(due, now+int64(progressInterval))) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := Progress{
		Phase:     c.phase,
		BytesDone: c.bytesDone.Load(), BytesTotal: c.bytesTotal,
		FilesDone: min(max(c.walked.Load()-c.waiting.Load(), 0), c.filesTotal), FilesTotal: c.filesTotal,
		Retries: c.src.Traffic().Retries + c.dst.Traffic().Retries - c.retriesBefore,
		Elapsed: time.Since(c.start),
	}
	if c.session != nil {
		p.BytesSent, p.PacksDone = c.session.BytesStored(), c.session.PacksStored()
		p.BytesToSend, p.PacksTotal = c.toSend(p.BytesSent, p.PacksDone)
	}
	c.opts.Progress(p)
}

// toSend estimates how much there is to send in all. Of what was not looked at yet as much
// is taken to be missing as of the rest.
func (c *copying) toSend(sent, packs int64) (bytes, inPacks int64) {
	planned, looked := c.planned.Load(), c.looked.Load()
	if looked > 0 && c.bytesTotal > looked {
		planned += int64(float64(planned) / float64(looked) * float64(c.bytesTotal-looked))
	}
	if c.phase != phaseSend {
		return sent, packs
	}
	bytes = max(planned, sent)
	if sent > 0 {
		return bytes, max(packs, int64(float64(bytes)/(float64(sent)/float64(packs))))
	}
	return bytes, bytes/int64(8<<20) + 1
}
