/** What the tests of copies and repair share: long logs, trimmed logs, and logs compared by the bytes on disk. */
import { expect } from 'vitest'
import { encodeCommand } from '../../../../../src/broker/apply/command.ts'
import type { Replica } from '../../../../../src/broker/replica/replica.ts'
import { frameTypes, type MemoryDisk } from '../../../../../store/index.ts'
import { eventually } from '../../../../support/eventually.ts'
import type { MemoryCluster } from '../../../../support/memory-cluster.ts'
import { createTopic } from '../support.ts'

export const smallSegmentBytes: number = 64 * 1024
const headerBytes = 4096

/** Topics with long names. */
export async function fill(replica: Replica, name: string, count: number): Promise<void> {
  for (let done = 0; done < count; done += 50) {
    const size = Math.min(50, count - done)
    await Promise.all(
      Array.from({ length: size }, (_, n) => createTopic(replica, `${name}-${done + n}-${'x'.repeat(90)}`)),
    )
  }
}

/** Entries that go on until it is stopped, over every change of leader. */
export class Load {
  readonly #cluster: MemoryCluster
  #stopped = false
  readonly #running: Promise<void>
  acknowledged = 0

  constructor(cluster: MemoryCluster) {
    this.#cluster = cluster
    this.#running = this.#run()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#running
  }

  async #run(): Promise<void> {
    for (let n = 0; !this.#stopped; n++) {
      const node = this.#cluster.nodes.find(
        (each) => this.#cluster.isRunning(each) && this.#cluster.broker(each).replica?.leading,
      )
      if (node === undefined) {
        await new Promise((resolve) => setTimeout(resolve, 5))
        continue
      }
      const body = encodeCommand({ kind: 'set_limits', limits: { autoCreateTopics: n % 2 === 0 } })
      await this.#cluster
        .replica(node)
        .propose(frameTypes.command, [body], { timeoutMs: 1000 })
        .then(() => this.acknowledged++)
        .catch(() => {})
    }
  }
}

/** Directory of the log that is in force. */
export function logDirectoryOf(disk: MemoryDisk, node: string): string {
  const pattern = new RegExp(`^data/${node}/(log(?:\\.\\d+)?)/`)
  const names = disk.paths().flatMap((path) => pattern.exec(path)?.[1] ?? [])
  const newest = names.sort((a, b) => Number(b.slice(4) || 0) - Number(a.slice(4) || 0))[0]
  return `data/${node}/${newest ?? 'log'}`
}

/** Frames of the segments on disk by base position, without the node-local headers. */
export function segmentsOf(disk: MemoryDisk, node: string): ReadonlyMap<number, Buffer> {
  const directory = `${logDirectoryOf(disk, node)}/`
  const paths = disk.paths().filter((path) => path.startsWith(directory))
  return new Map(
    paths.map((path) => [
      Number.parseInt(path.slice(directory.length), 10),
      disk.contentOf(path).subarray(headerBytes),
    ]),
  )
}

/** S2: over what two nodes both have, their logs are equal bytes; and they have at least one segment in common. */
export async function expectEqualLogs(cluster: MemoryCluster, nodes: readonly string[] = cluster.nodes): Promise<void> {
  // What is only staged is on no disk yet, and what is not committed may still differ.
  const settled = nodes
    .map((node) => cluster.replica(node))
    .map(({ log, commitIndex }) => Math.min(log.durableIndex, commitIndex))
  const last = Math.min(...settled)
  const [frame] = await cluster.replica(nodes[0] as string).log.read(last, last, 1)
  const end = frame ? frame.header.position + frame.header.frameLength : 0
  const [first, ...others] = nodes.map((node) => segmentsOf(cluster.machine(node).disk, node))
  for (const [at, other] of others.entries()) {
    let common = 0
    for (const [base, bytes] of first ?? []) {
      const theirs = other.get(base)
      if (!theirs || base >= end) continue
      common++
      const length = Math.min(end - base, bytes.length, theirs.length)
      const same = bytes.subarray(0, length).equals(theirs.subarray(0, length))
      expect(same, `segment ${base} of ${nodes[0]} and ${nodes[at + 1]}`).toBe(true)
    }
    expect(common).toBeGreaterThan(0)
  }
}

/** Has the group give up what lies before the entry, and waits until the node has deleted what it can of that. */
export async function trim(cluster: MemoryCluster, node: string, firstIndex: number): Promise<number> {
  const running = cluster.nodes.filter((each) => cluster.isRunning(each))
  const leader = cluster.replica(await cluster.leader(running))
  const body = encodeCommand({ kind: 'trim', firstIndex, queues: [] })
  await leader.propose(frameTypes.command, [body], { timeoutMs: 5000 })
  return eventually('the segments are deleted', () => {
    const log = cluster.broker(node).replica?.log
    const isTrimmed = (log?.segments()[1]?.firstIndex ?? firstIndex + 1) > firstIndex
    return isTrimmed && log?.firstIndex
  })
}
