/**
 * A question to the rules and its answer, in a form that every judge understands: the interpreter, the tables run
 * here, the decision code built for the host, the kernel.
 */
import type { Action, EscapeRule, Policy, Postures } from '../../agent/policy/model.js';

/** A name's bytes, one character of 0-255 each ("latin1"), so that names need not be UTF-8. */
export type Name = string;

export type FileOperation = 'exec' | 'map' | 'read' | 'write' | 'load' | 'move';

/** Who asks. */
export interface Subject {
  /** The program that acts; a script and its interpreter are two. */
  readonly programs: readonly Name[];
  /** The program of the parent process, or its two. */
  readonly parents: readonly Name[];
}

/** What only run time knows. */
export interface Facts {
  readonly isOwner: boolean;
  readonly hasTty: boolean;
  /** Arguments after the first. */
  readonly args: readonly Name[];
  /** The object is the caller's own entry in /proc. */
  readonly isSelf: boolean;
}

export type Request = { readonly subject: Subject; readonly facts: Facts } & (
  | {
      readonly kind: 'file';
      readonly operation: FileOperation;
      /** Undefined = it has none: memfd, deleted. */
      readonly name: Name | undefined;
    }
  | { readonly kind: 'socket' /** enum socket_kind */; readonly socket: number }
  | {
      readonly kind: 'address';
      readonly direction: 'egress' | 'ingress';
      /** 4 or 16 bytes; empty = binding, whoever the peer will be (ingress only). */
      readonly address: readonly number[];
      /** IPPROTO_* */
      readonly protocol: number;
      readonly port: number;
    }
  /** A look-up of a domain name, in lower case. */
  | { readonly kind: 'query'; readonly domain: Name }
  /** A system call; with a path, of those whose operation has the call's name. */
  | { readonly kind: 'call'; readonly syscall: string; readonly path: Name | undefined }
  | { readonly kind: 'capability'; readonly capability: number }
  | { readonly kind: 'escape'; readonly operation: EscapeRule['operation'] }
  | { readonly kind: 'preset'; readonly preset: 'exec' | 'anonymousMapExec' | 'drift' }
);

/** A rule as people know it; built-in ones have no policy. */
export interface RuleName {
  readonly policy: string;
  readonly rule: string;
}

export interface Verdict {
  /** Undefined = the operation goes ahead. An Allow rule denies where its conditions fail. */
  readonly denied: (RuleName & { readonly action: Action }) | undefined;
  /** Reported though it goes ahead. */
  readonly reported: RuleName | undefined;
}

/** Settles requests under one set of policies. */
export type Judge = (request: Request) => Verdict;

export type MakeJudge = (policies: readonly Policy[], postures: Postures) => Judge;
