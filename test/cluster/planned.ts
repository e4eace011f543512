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
  const dataDirectory = mkdtempSync(join(tmpdir(), 'ledgermq-test-'))
  const size = { dataDirectory, nodesPerGroup, groups, namesrvs, anyPorts: true }
  try {
    // A session takes the plan that lies in its folder.
    savePlan(adjust(await planCluster(size)))
    await withSession(size, systemClock, use)
  } finally {
    rmSync(dataDirectory, { recursive: true, force: true })
  }
}
