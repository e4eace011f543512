/** A replica whose disk is emptied under load comes back by a copy, on real processes; `npm run verify` does 2 GiB. */
import { expect, test } from 'vitest'
import { measureWipedReplica } from '../verify/wiped-replica.ts'
import { patienceMs } from './support.ts'

test('P7: a wiped replica is replaced, copies the log under load and votes again', async () => {
  const report = await measureWipedReplica({
    logMib: 80,
    beforeMs: 2000,
    timeoutMs: 240_000,
    sendTimeoutMs: patienceMs,
    say: () => {},
  })
  expect(report).toMatchObject({ copied: true, failed: 0 })
  // What the copy may cost is measured on a quiet machine, see `test/verify/limits.ts`.
  expect(report.duringPerSecond).toBeGreaterThan(0)
})
