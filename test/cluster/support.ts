/**
 * What the tests on real processes share: a cluster that always ends, faults by name, a load that remembers, and the
 * comparison of what was acknowledged with what is there. The processes run from `dist/`, so a build comes first.
 */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import { check } from '../../src/cli/fast-try/check.ts'
import { drain } from '../../src/cli/fast-try/drain.ts'
import { Load } from '../../src/cli/fast-try/load.ts'
import { type Session, withSession } from '../../src/cli/fast-try/session.ts'
import type { Producer } from '../../src/client/mod.ts'
import { sleep, systemClock } from '../../src/common/clock.ts'
import { silentLogger } from '../../src/common/logger.ts'
import { createGrpcTransport } from '../../src/rpc/grpc-transport.ts'
import type { Channel } from '../../src/rpc/transport.ts'

export interface ClusterOptions {
  readonly groups?: number
  readonly namesrvs?: number
}

/** Longest wait for anything that a test waits for. */
export const patienceMs = 90_000
const goneTimeoutMs = 60_000
const settlePauseMs = 50
/** Ends what hangs, before the test runner does. */
const cliTimeoutMs = 200_000

/** Real processes on loopback ports in a temporary folder; all gone when it returns or throws. */
export async function withCluster(
  use: (session: Session) => Promise<void>,
  { groups = 1, namesrvs = 1 }: ClusterOptions = {},
): Promise<void> {
  const options = { dataDirectory: undefined, nodesPerGroup: 3, groups, namesrvs, anyPorts: true }
  await withSession(options, systemClock, use)
}

/** `kill -9` of these processes at once; resolves when they are gone. */
export async function kill({ cluster }: Session, names: readonly string[]): Promise<void> {
  for (const name of names) cluster.processes.signal(name, 'SIGKILL')
  for (const name of names) await cluster.processes.waitGone(name, goneTimeoutMs)
}

/** SIGTERM to these processes, one after the other; resolves when all are gone. */
export async function stop({ cluster }: Session, names: readonly string[]): Promise<void> {
  for (const name of names) {
    cluster.processes.signal(name, 'SIGTERM')
    await cluster.processes.waitGone(name, goneTimeoutMs)
  }
}

export function start({ cluster }: Session, names: readonly string[]): void {
  for (const name of names) cluster.processes.start(name)
}

/** Waits for the condition; fails with `what` after `timeoutMs`. */
export async function until(
  { cluster }: Session,
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs: number = patienceMs,
): Promise<void> {
  await cluster.waitFor(what, timeoutMs, async () => condition())
}

/**
 * Looks again and again until nothing in `look` throws; fails with what the last look threw. For what becomes true and
 * stays true: a single look may meet an election, or a process that gets no time to answer.
 */
export async function settles(look: () => Promise<void>): Promise<void> {
  const endMs = systemClock.monotonicMs() + patienceMs
  for (;;) {
    try {
      return await look()
    } catch (error) {
      if (systemClock.monotonicMs() > endMs) throw error
      await sleep(systemClock, settlePauseMs)
    }
  }
}

/** All replicas hold the same log to its end, know it to be committed and have applied it. No load may run. */
export async function waitEqualCommit(session: Session): Promise<void> {
  await until(session, 'all know the same commit and have applied it', async () => {
    const view = await session.cluster.view()
    const [first] = view
    return view.every(
      ({ status }) =>
        status !== null &&
        status.commitIndex === first?.status?.commitIndex &&
        status.appliedIndex === status.commitIndex &&
        status.lastIndex === status.commitIndex,
    )
  })
}

/** A connection whose streams wait for a server that gets no time to accept them; ours to close. */
export function channelTo(port: number, purpose: 'client' | 'control' = 'client'): Channel {
  const limits = { openTimeoutMs: patienceMs }
  const transport = createGrpcTransport({ clock: systemClock, logger: silentLogger, limits })
  return transport.connect(`127.0.0.1:${port}`, purpose)
}

/** Names of all broker processes. */
export function nodeNames({ plan }: Session): readonly string[] {
  return plan.nodes.map((node) => node.name)
}

/** The name of the process that leads the first group; waits for one. */
export async function leaderName(session: Session, group?: string): Promise<string> {
  const wanted = group ?? session.plan.nodes[0]?.group ?? ''
  let name: string | undefined
  await until(session, `${wanted} has a leader`, async () => {
    name = (await session.cluster.leader(wanted))?.plan.name
    return name !== undefined
  })
  return name ?? ''
}

/** It does not wait for a machine that is slow: the more there is to read in the end. */
const loadPerSecond = 400

/** A steady load into a topic that is created for it. `producer` stays the caller's to close. */
export async function startLoad(
  { client }: Session,
  producer: Producer,
  options: { readonly topic: string; readonly messagesPerSecond?: number; readonly queues?: number },
): Promise<Load> {
  const { topic, messagesPerSecond = loadPerSecond, queues = 8 } = options
  await client.admin().createTopic({ topic, queues })
  const lines = Array.from({ length: 100 }, (_, index) => Buffer.from(`line ${index} ${'x'.repeat(index)}`))
  const load = new Load(producer, systemClock, { topic, lines, messagesPerSecond })
  load.start()
  return load
}

/** Everything acknowledged is there, once, at the offset told; nothing else, no gap. Reads from the leader. */
export async function expectIntact({ client }: Session, load: Load, topic: string): Promise<void> {
  const messages = await drain(client, topic)
  const { acknowledgements, sent } = load
  const result = check({ acknowledgements, messages, sent, body: (sequence) => load.body(sequence) })
  expect(result.findings).toEqual([])
  expect(result).toMatchObject({ lost: 0, duplicated: 0, offsetGaps: 0, corrupted: 0 })
  expect(result.acknowledged).toBeGreaterThan(0)
}

/** So long a command of `ledgermq raft` looks for the leader, which it otherwise gives up after 10 s. */
const raftTimeoutMs = 60_000
const lookingVerbs: readonly string[] = ['members', 'transfer-leader']

/** Words of `ledgermq raft` for a machine that may be slow; a limit of their own stays. */
export function patiently(words: readonly string[]): readonly string[] {
  const isBounded = words.includes('--timeout') || !lookingVerbs.includes(words[0] ?? '')
  return isBounded ? words : [...words, '--timeout', String(raftTimeoutMs)]
}

export interface CliResult {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Refusals of a change that had not begun, for reasons that a busy machine makes up and that pass. */
const passing = /^(NOT_CAUGHT_UP|WOULD_LOSE_QUORUM|NODE_UNREACHABLE|NO_QUORUM|UNAVAILABLE|DEADLINE_EXCEEDED): /m

function refusalOf({ stdout, stderr }: CliResult): string {
  const code = /^\{"error":\{"code":"(\w+)"/.exec(stdout)?.[1]
  return code === undefined ? stderr : `${code}: `
}

/** What the command comes to that the group should accept, asked again while it is refused for such a reason. */
export async function accepted(run: () => Promise<CliResult>): Promise<CliResult> {
  const endMs = systemClock.monotonicMs() + patienceMs
  for (;;) {
    const result = await run()
    if (result.code === 0 || !passing.test(refusalOf(result)) || systemClock.monotonicMs() > endMs) return result
  }
}

/** Runs the compiled command line as a process of its own, to its end. */
export function cli(...args: readonly string[]): Promise<CliResult> {
  const entry = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [entry, ...args], { timeout: cliTimeoutMs })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (bytes: Buffer) => {
      stdout += bytes.toString()
    })
    child.stderr.on('data', (bytes: Buffer) => {
      stderr += bytes.toString()
    })
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, stdout, stderr }))
  })
}
