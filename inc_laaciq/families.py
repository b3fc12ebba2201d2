"""Language families: for groups of a policy that share a branch of the tree of languages.

One level only, the top one of the tree that Ethnologue and ISO 639-5 use; so Mande (Bambara, Dyula) is in Niger-Congo
and Nilo-Saharan is one family, which others split.  "Creole" holds creoles and pidgins (`crp` of ISO 639-5).  A
language whose place is disputed, or that nobody is sure about, is not in the table: it has no family here, which is
better than a wrong one.  A constructed language has none either.

Resource tiers are not here: no agreed table of them exists, and what is low-resource depends on the model.  List the
languages in a group of the policy.
"""

from __future__ import annotations

# Language subtags of canonical tags: ISO 639-1 where there is a code, else ISO 639-3.
_TABLE = {
    "Abkhaz-Adyge": "ab abq ady kbd",
    "Afro-Asiatic": (
        "aa acm acq aeb aii am apc ar arc arq ars ary arz bej byn cop gez ha he kab mey mt om rif shi sid so "
        "syr taq ti tig tzm wal zgh"
    ),
    "Algic": "atj bla chy cr mic oj",
    "Araucanian": "arn",
    "Austroasiatic": "hoc kha km mnw sat unr vi",
    "Austronesian": (
        "ace ami ban bik bjn btx bug ceb ch cjm fil fj gil gor haw hil iba id ilo jv mad mak mg mh mi min ms "
        "na niu pag pam pau pwn rap rar sas sm su tet tkl to trv tvl ty war yap"
    ),
    "Aymaran": "ay",
    "Basque": "eu",
    "Creole": "acf bi bzj gcf gcr ho ht jam kea mfe pap pcm rcf sg srm srn tpi",
    "Dravidian": "brh gon kn kru ml ta tcy te",
    "Eskimo-Aleut": "ale ik iu kl",
    "Indo-European": (
        "ae af an ang anp as ast awa bar be bg bgc bgn bho bn bpy br bs ca ckb co cs csb cu cy da de doi dsb "
        "dty dv el en es ext fa fo fr frp frr fur fy ga gd gl glk goh gom got grc gsw gu gv haz hi hif hne hr "
        "hsb hy hyw is it kok ks ksh ku kw la lad lah lb li lij lld lmo lrc lt ltg lv mag mai mk mr mwl mzn "
        "nap nb nds ne nl nn no oc or os pa pcd pdc pfl pi pl pms ps pt raj rm ro rom ru rue rup sa sc scn "
        "sco sd sgs si sk skr sl sq sr stq sv syl szl tg uk ur vec vls wa yi zea zza"
    ),
    "Iroquoian": "chr moh see",
    "Japonic": "ja ryu",
    "Kartvelian": "ka lzz sva xmf",
    "Koreanic": "ko",
    "Kra-Dai": "aho blt lo nod shn tdd th za",
    "Mayan": "cak kek mam quc tzh tzo yua",
    "Mongolic": "bua mn xal",
    "Na-Dene": "den dgr gwi nv",
    "Nakh-Daghestanian": "agx av ce dar inh lbe lez rut tab udi",
    "Niger-Congo": (
        "ada agq ak asa bas bci bem bez bm bss bum cgg cjk dag dua dyo dyu ebu ee efi ewo ff fon gaa gur hz "
        "ibb ig jmc kam kbp kde kg ki kj kmb kpe ksb ksf lag lg ln lol loz lu lua luy men mgh mgo mos nd ng "
        "nmg nnh nqo nr nso ny nym nyn nzi rn rof rw rwk sbp seh sn snk srr ss st suk sus sw tem tiv tn toi "
        "ts tum umb vai ve vun wo xh xog yo zu"
    ),
    "Nilo-Saharan": "ach din dje khq kln kr luo mas nus saq ses teo",
    "Quechuan": "qu",
    "Sino-Tibetan": (
        "bo brx cdo cjy cnh cpx czo dz gan grt hak hsn ii kac ksw lep lif lus lzh mni my nan new wuu yue zh"
    ),
    "Siouan": "dak lkt osa",
    "Tungusic": "eve evn gld mnc sjo",
    "Tupian": "gn yrl",
    "Turkic": ("alt az azb ba chg crh cv gag kaa kim kjh kk krc kum ky nog ota sah tk tr tt tyv ug uz"),
    "Uralic": (
        "chm et fi fit fkv hu izh kca koi krl kv liv mdf mns mrj myv olo se sma smj smn sms udm vep vot vro yrk"
    ),
    "Uto-Aztecan": "hop nah ood",
}

#: Languages that somebody made up: they have no family.
CONSTRUCTED = frozenset({"eo", "ia", "ie", "io", "jbo", "lfn", "nov", "tlh", "vo"})

FAMILIES: tuple[str, ...] = tuple(sorted(_TABLE))

FAMILY_OF: dict[str, str] = {code: family for family, codes in _TABLE.items() for code in codes.split()}
