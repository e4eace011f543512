/**
 * Hands leadership over before a graceful stop (thesis 3.10), so that producers wait milliseconds instead of an
 * election. Called by `broker.ts`.
 */
import type { Clock } from '../../common/clock.ts'
import type { Replica } from './replica.ts'

/** Resolves when this node leads no more, after `msMax`, or when `hurry` aborts; at once when it does not lead. */
export async function handOver(replica: Replica, clock: Clock, msMax: number, hurry: AbortSignal): Promise<void> {
  if (hurry.aborted || !replica.leadership.transferAway()) return
  await new Promise<void>((resolve) => {
    const done = (): void => {
      cancelTimer()
      removeListener()
      hurry.removeEventListener('abort', done)
      resolve()
    }
    const cancelTimer = clock.after(msMax, done)
    const removeListener = replica.onRoleChanged(() => {
      if (replica.role !== 'leader') done()
    })
    hurry.addEventListener('abort', done)
  })
}
