/**
 * What the kernel tells of a process: whether it runs, and since when. Asked by `processes.ts` about pids that it has
 * written down; never searches. Where there is no /proc a pid that takes signals counts as running.
 */
import { readFileSync } from 'node:fs'

/** One line of /proc/pid/stat, as far as it matters. */
export interface ProcessFacts {
  /** The letter that the kernel gives: R, S, D, T, Z, X. */
  readonly state: string
  readonly threads: number
  /** Ticks since the machine started: tells a process from a later one with the same pid. */
  readonly started: string
}

/** Null when there is no such process, or no /proc. */
export function factsOf(pid: number): ProcessFacts | null {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return null
  }
}

/** The command may hold spaces and parentheses; what follows the last one is fields. */
export function parseStat(stat: string): ProcessFacts {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return { state: fields[0] ?? '', threads: Number(fields[17] ?? 1), started: fields[19] ?? '' }
}

/**
 * Nothing of it is left. A killed process is a zombie as soon as its first thread has ended, while the others still
 * hold its sockets: who starts the next one then finds the port in use.
 */
export function isGone({ state, threads }: ProcessFacts): boolean {
  return state === 'X' || (state === 'Z' && threads <= 1)
}
