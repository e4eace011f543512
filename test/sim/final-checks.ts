/**
 * What must hold when a mended group has come to rest: equal bytes, equal state, and every queue readable on every
 * replica, message by message.
 */
import { readRecords } from '../../src/message/batch.ts'
import { isZero } from '../../store/frame.ts'
import { frameBody } from '../../store/index.ts'
import { segmentName } from '../../store/segment.ts'
import { segmentHeaderBytes } from '../../store/segment-header.ts'
import type { Judge } from './judge.ts'
import { valueIn } from './message-history.ts'
import type { SimNode } from './sim-node.ts'
import { topic } from './workload.ts'

/** All replicas run and have applied and committed the same last entry. */
export function hasConverged(nodes: readonly SimNode[]): boolean {
  const first = nodes[0]?.broker?.replica
  if (!first) return false
  const last = first.log.lastIndex
  return nodes.every((node) => {
    const replica = node.broker?.replica
    if (!replica || replica.log.lastIndex !== last || replica.log.durableIndex !== last) return false
    return replica.commitIndex === last && replica.appliedIndex === last && replica.leader() !== null
  })
}

type Check = (condition: boolean, text: () => string) => void

/**
 * Call at the instant of convergence: everything but the reading of messages is checked at once. Answers what is wrong,
 * null when nothing is. What is read tells nothing when another entry is committed meanwhile, which may be a trim.
 */
export async function checkAgreement(
  nodes: readonly SimNode[],
  judge: Judge,
  options: { readonly segmentBytes: number },
): Promise<string | null> {
  let problem: string | null = null
  const check: Check = (condition, text) => {
    if (!condition) problem ??= text()
  }
  const hashes = new Set(nodes.map((node) => node.broker?.replica?.machine.hash))
  check(hashes.size === 1, () => `B1: at rest the replicas have different states: ${[...hashes].join(' ')}`)
  for (const node of nodes) {
    const log = node.broker?.replica?.log
    if (log) checkBytes({ node, other: nodes[0] as SimNode, end: log.endPosition, ...options }, check)
    for (let index = 1; index <= judge.lastCommitted; index++) {
      const entry = judge.committedAt(index)
      check(!entry || judge.isDurableOn(node, entry), () => `P1: entry ${index} is not on the disk of ${node.name}`)
    }
  }
  try {
    await Promise.all(nodes.map((node) => checkQueues(node, judge, check)))
  } catch (error) {
    check(false, () => `reading at the end: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
  }
  return problem
}

interface Comparison {
  readonly node: SimNode
  readonly other: SimNode
  readonly end: number
  readonly segmentBytes: number
}

/** Where logs overlap they are equal bytes, and behind the tail there are only zeros. */
function checkBytes({ node, other, end, segmentBytes }: Comparison, check: Check): void {
  const first = Math.max(originOf(node), originOf(other))
  for (let base = first; base < end; base += segmentBytes) {
    const length = Math.min(segmentBytes, end - base)
    const bytes = framesOf(node, base)
    const same = bytes.subarray(0, length).equals(framesOf(other, base).subarray(0, length))
    check(same, () => `S2: the logs of ${node.name} and ${other.name} differ behind ${base}`)
    check(isZero(bytes.subarray(length)), () => `S2: ${node.name} has old bytes behind the tail at ${end}`)
  }
}

function originOf(node: SimNode): number {
  return node.broker?.replica?.log.origin.position ?? 0
}

function framesOf(node: SimNode, base: number): Buffer {
  return node.disk.contentOf(`${node.logDirectory}/${segmentName(base)}`).subarray(segmentHeaderBytes)
}

/** Reads every queue from this replica's own state and log. */
async function checkQueues(node: SimNode, judge: Judge, check: Check): Promise<void> {
  const replica = node.broker?.replica
  const info = replica?.machine.topic(topic)
  if (!replica || !info) return
  for (const [queue, expected] of judge.messages.queues.entries()) {
    const first = replica.machine.queueRange(info.topicId, queue)?.min ?? 0
    check(
      first === judge.messages.minOffset(queue),
      () => `P1: queue ${queue} of ${node.name} begins at ${first}, it should at ${judge.messages.minOffset(queue)}`,
    )
    const found: string[] = (expected ?? []).slice(0, first)
    while (found.length < (expected?.length ?? 0)) {
      const rows = await replica.machine.findRows(info.topicId, queue, found.length, 64)
      if (rows.length === 0) break
      for (const row of rows) {
        const frame = await replica.log.readAt(row.position)
        // The first batch may begin before the minimum.
        found.length = Math.min(found.length, row.baseOffset)
        for (const record of readRecords(frameBody(frame), 0)) found.push(valueIn(record.body))
      }
    }
    const at = (expected ?? []).findIndex((value, offset) => found[offset] !== value)
    check(at < 0, () => `P1: ${node.name} has ${found[at]} at ${queue}/${at}, it should be ${expected?.[at]}`)
  }
}
