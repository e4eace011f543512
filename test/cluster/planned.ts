/** Clusters of real processes that differ from the usual plan: other periods, ports behind a proxy, fewer replicas. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ClusterPlan, planCluster, savePlan } from '../../src/cli/fast-try/layout.ts'
import { type Session, withSession } from '../../src/cli/fast-try/session.ts'
import { systemClock } from '../../src/common/clock.ts'

export interface PlanSize {
  readonly nodesPerGroup?: number
  readonly groups?: number
  readonly namesrvs?: number
}

/** Like `withCluster`, with a plan that `adjust` has changed before anything starts. */
export async function withPlan(
  { nodesPerGroup = 3, groups = 1, namesrvs = 1 }: PlanSize,
  adjust: (plan: ClusterPlan) => ClusterPlan,
  use: (session: Session) => Promise<void>,
): Promise<void> {
  const own = mkdtempSync(join(tmpdir(), 'ledgermq-test-'))
  // Not the temporary folder itself: whoever watches what lies beside the data sees nobody else's files.
  const dataDirectory = join(own, 'cluster')
  const size = { dataDirectory, nodesPerGroup, groups, namesrvs, anyPorts: true }
  try {
    // A session takes the plan that lies in its folder.
    savePlan(adjust(await planCluster(size)))
    await withSession(size, systemClock, use)
  } finally {
    rmSync(own, { recursive: true, force: true })
  }
}
