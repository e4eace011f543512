/**
 * Which member of a consumer group owns which queues, with the generation that fences members of older assignments.
 *
 * The leader decides who is a member (heartbeats live in its memory) and proposes; apply makes it true for everyone.
 * A generation never comes back, not even for a group that lost all members.
 */
import type { StateOperation, StateStoreApi } from '../../../store/index.ts'
import type { GroupAssignment } from '../contract.ts'
import type { AssignGroup, CommitOffsets } from './command.ts'
import { readMember, writeMembers } from './command-payloads.ts'
import { assignmentKey, nameInKey, rowKinds } from './keys.ts'
import type { Limits } from './limits.ts'
import { type StateTable, scanRows } from './pending-changes.ts'
import { ProtobufReader, ProtobufWriter } from './protobuf.ts'
import { type Refusal, refusal } from './result.ts'

/** Queues owned by one member, by topic id. */
type OwnedQueues = ReadonlyMap<number, ReadonlySet<number>>

interface Group {
  readonly assignment: GroupAssignment
  readonly owned: ReadonlyMap<string, OwnedQueues>
}

const noAssignment: GroupAssignment = { generation: 0, members: [] }

export class GroupTable implements StateTable {
  readonly #groups = new Map<string, Group>()
  readonly #dirty = new Set<string>()

  get dirtyCount(): number {
    return this.#dirty.size
  }

  async load(store: StateStoreApi): Promise<void> {
    for await (const [key, value] of scanRows(store, rowKinds.assignment)) {
      const assignment = readAssignment(new ProtobufReader(value))
      const owned = ownedByMember(assignment.members)
      if (owned) this.#groups.set(nameInKey(key), { assignment, owned })
    }
  }

  assignment(group: string): GroupAssignment {
    return this.#groups.get(group)?.assignment ?? noAssignment
  }

  /** Sorted by name. */
  withMembers(): readonly string[] {
    return [...this.#groups]
      .filter(([, group]) => group.assignment.members.length > 0)
      .map(([name]) => name)
      .sort()
  }

  /** Returns the new generation. */
  assign(command: AssignGroup, limits: Limits): number | Refusal {
    const { group, expectedGeneration, members } = command
    const current = this.assignment(group).generation
    if (current !== expectedGeneration) {
      return refusal('ILLEGAL_GENERATION', `group ${group} is at generation ${current}, not ${expectedGeneration}`)
    }
    if (!this.#groups.has(group) && this.#groups.size >= limits.groupsMax) {
      return refusal('INVALID_PARAMETER', `there are ${limits.groupsMax} consumer groups already, the most allowed`)
    }
    if (members.length > limits.membersPerGroupMax) {
      return refusal('INVALID_PARAMETER', `a group may have at most ${limits.membersPerGroupMax} members`)
    }
    const owned = ownedByMember(members)
    if (!owned) return refusal('INVALID_PARAMETER', 'a member is named twice or a queue given to two members')
    const generation = current + 1
    this.#groups.set(group, { assignment: { generation, members }, owned })
    this.#dirty.add(group)
    return generation
  }

  /** Why this member may not commit these queues now, or null. */
  fence(command: CommitOffsets): Refusal | null {
    const { group, member, generation } = command
    const known = this.#groups.get(group)
    const isEmpty = !known || known.assignment.members.length === 0
    if (member === '') {
      if (isEmpty) return null
      return refusal('ILLEGAL_GENERATION', `group ${group} has members; only they may commit`)
    }
    if (isEmpty || known.assignment.generation !== generation) {
      const current = known?.assignment.generation ?? 0
      return refusal('ILLEGAL_GENERATION', `group ${group} is at generation ${current}, not ${generation}`)
    }
    const owned = known.owned.get(member)
    const foreign = command.offsets.find(({ topicId, queue }) => !owned?.get(topicId)?.has(queue))
    if (!foreign) return owned ? null : refusal('ILLEGAL_GENERATION', `${member} is no member of group ${group}`)
    return refusal('ILLEGAL_GENERATION', `queue ${foreign.queue} is not assigned to ${member} of group ${group}`)
  }

  collect(into: StateOperation[]): void {
    for (const group of this.#dirty) {
      const writer = new ProtobufWriter()
      const { generation, members } = this.assignment(group)
      writer.uint(1, generation)
      writeMembers(writer, members)
      into.push({ kind: 'put', key: assignmentKey(group), value: writer.finish() })
    }
    this.#dirty.clear()
  }
}

function readAssignment(reader: ProtobufReader): GroupAssignment {
  let generation = 0
  const members: GroupAssignment['members'][number][] = []
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) generation = reader.uint()
    else if (field === 3) members.push(readMember(new ProtobufReader(reader.bytes())))
    else reader.unknown()
  }
  return { generation, members }
}

/** Null when a member comes twice or a queue has two owners: fencing would mean nothing. */
function ownedByMember(members: GroupAssignment['members']): ReadonlyMap<string, OwnedQueues> | null {
  const byMember = new Map<string, OwnedQueues>()
  const taken = new Map<number, Set<number>>()
  for (const { member, queues } of members) {
    if (member === '' || byMember.has(member)) return null
    const owned = new Map<number, Set<number>>()
    byMember.set(member, owned)
    for (const { topicId, queue } of queues) {
      if (taken.get(topicId)?.has(queue)) return null
      addTo(taken, topicId, queue)
      addTo(owned, topicId, queue)
    }
  }
  return byMember
}

function addTo(sets: Map<number, Set<number>>, key: number, value: number): void {
  const set = sets.get(key)
  if (set) set.add(value)
  else sets.set(key, new Set([value]))
}
