/** Connects to a cluster that was started a moment ago: its namesrv may not listen yet. */
import { type Client, connect } from '../../client/mod.ts'
import { type Clock, sleep } from '../../common/clock.ts'
import { toLedgerError } from '../../common/errors.ts'
import { type ClusterPlan, namesrvAddresses } from './layout.ts'

const retryMs = 20

/** Rejects with UNAVAILABLE when no namesrv answers within `timeoutMs`. */
export async function connectWhenUp(plan: ClusterPlan, clock: Clock, timeoutMs: number): Promise<Client> {
  const end = clock.monotonicMs() + timeoutMs
  for (;;) {
    try {
      return await connect({ namesrv: namesrvAddresses(plan) })
    } catch (error) {
      if (toLedgerError(error).code !== 'UNAVAILABLE' || clock.monotonicMs() > end) throw error
      await sleep(clock, retryMs)
    }
  }
}
