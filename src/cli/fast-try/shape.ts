/**
 * How large a local cluster is to be: what the operator asked for, checked before a port, a process or a folder is
 * taken. Called by the `fast-try` command; throws CONFIG_INVALID with the flag and its limit.
 */
import { LedgerError } from '../../common/errors.ts'
import type { ClusterPlan } from './layout.ts'

/** Each undefined where it was not asked for. */
export interface ShapeWish {
  readonly nodes?: number | undefined
  readonly groups?: number | undefined
  readonly namesrvs?: number | undefined
}

export interface Shape {
  readonly nodesPerGroup: number
  readonly groups: number
  readonly namesrvs: number
}

/** As many members as a broker group may have. */
export const nodesPerGroupMax = 15
/** As many namesrvs as a broker registers with. */
export const namesrvsMax = 32
/** More processes than this bring one machine to its knees before they serve. */
export const replicasMax = 60

const defaults: Shape = { nodesPerGroup: 3, groups: 1, namesrvs: 1 }

export function shapeOf(wish: ShapeWish): Shape {
  const { nodes: nodesPerGroup = defaults.nodesPerGroup, groups = defaults.groups } = wish
  const { namesrvs = defaults.namesrvs } = wish
  atMost('--nodes', nodesPerGroup, nodesPerGroupMax, 'replicas in a broker group')
  atMost('--namesrvs', namesrvs, namesrvsMax, 'namesrvs')
  atMost('--groups', groups, Math.floor(replicasMax / nodesPerGroup), `groups of ${nodesPerGroup} on one machine`)
  return { nodesPerGroup, groups, namesrvs }
}

/** A cluster that is there has its size; `raft add` and `raft remove` change it, a flag of `start` does not. */
export function checkSameShape(plan: ClusterPlan, wish: ShapeWish): void {
  const initial = plan.nodes.filter((node) => node.joins === undefined)
  const groups = new Set(initial.map((node) => node.group)).size
  const found = { nodes: initial.length / groups, groups, namesrvs: plan.namesrvs.length }
  for (const name of ['nodes', 'groups', 'namesrvs'] as const) {
    if (wish[name] === undefined || wish[name] === found[name]) continue
    const there = `${plan.dataDirectory} holds a cluster that was made with ${found[name]}`
    throw invalid(`--${name} is ${wish[name]}, but ${there}: leave it out, or choose another --data`)
  }
}

function atMost(flag: string, value: number, most: number, what: string): void {
  if (value > most) throw invalid(`${flag} is ${value}, but at most ${most} ${what} are possible`)
}

function invalid(message: string): LedgerError {
  return new LedgerError('CONFIG_INVALID', message, {}, { hint: 'Correct the flag that the message names.' })
}
