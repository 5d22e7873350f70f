/**
 * The calibration text that ships with the package, so that a first run needs nothing: short documents of many
 * registers and languages, because neurons serve different ones.
 *
 * Sources: the scenes in verse are William Shakespeare's (public domain): Richard III, Romeo and Juliet, Richard II,
 * Measure for Measure, The Taming of the Shrew, The Tempest and Coriolanus. Everything else (exposition, letters,
 * conversations, instructions, fiction, programs, sums, other languages) was written for this project and is under its
 * licence. About 34 thousand characters.
 */
export const DEFAULT_TEXTS: readonly string[] = [
  `GLOUCESTER:
Now is the winter of our discontent
Made glorious summer by this sun of York;
And all the clouds that lour'd upon our house
In the deep bosom of the ocean buried.
Now are our brows bound with victorious wreaths;
Our bruised arms hung up for monuments;
Our stern alarums changed to merry meetings,
Our dreadful marches to delightful measures.
Grim-visaged war hath smooth'd his wrinkled front;
And now, instead of mounting barded steeds
To fright the souls of fearful adversaries,
He capers nimbly in a lady's chamber
To the lascivious pleasing of a lute.
But I, that am not shaped for sportive tricks,
Nor made to court an amorous looking-glass;
I, that am rudely stamp'd, and want love's majesty
To strut before a wanton ambling nymph;
I, that am curtail'd of this fair proportion,
Cheated of feature by dissembling nature,
Deformed, unfinish'd, sent before my time
Into this breathing world, scarce half made up,
And that so lamely and unfashionable
That dogs bark at me as I halt by them;
Why, I, in this weak piping time of peace,
Have no delight to pass away the time,
Unless to spy my shadow in the sun
And descant on mine own deformity:
And therefore, since I cannot prove a lover,
To entertain these fair well-spoken days,
I am determined to prove a villain
And hate the idle pleasures of these days.
Plots have I laid, inductions dangerous,
By drunken prophecies, libels and dreams,
To set my brother Clarence and the king
In deadly hate the one against the other:
And if King Edward be as true and just
As I am subtle, false and treacherous,
This day should Clarence closely be mew'd up,
About a prophecy, which says that 'G'
Of Edward's heirs the murderer shall be.
Dive, thoughts, down to my soul: here
Clarence comes.
Brother, good day; what means this armed guard
That waits upon your grace?

CLARENCE:
His majesty
Tendering my person's safety, hath appointed
This conduct to convey me to the Tower.

GLOUCESTER:
Upon what cause?

CLARENCE:
Because my name is George.

GLOUCESTER:
Alack, my lord, that fault is none of yours;
He should, for that, commit your godfathers:
O, belike his majesty hath some intent
That you shall be new-christen'd in the Tower.
But what's the matter, Clarence?  may I know?

CLARENCE:
Yea, Richard, when I know; for I protest
As yet I do not: but, as I can learn,
He hearkens after prophecies and dreams;
And from the cross-row plucks the letter G.
And says a wizard told him that by G
His issue disinherited should be;
And, for my name of George begins with G,
It follows in his thought that I am he.
These, as I learn, and such like toys as these
Have moved his highness to commit me now.

GLOUCESTER:
Why, this it is, when men are ruled by women:
'Tis not the king that sends you to the Tower:
My Lady Grey his wife, Clarence, 'tis she
That tempers him to this extremity.
Was it not she and that good man of worship,
Anthony Woodville, her brother there,
That made him send Lord Hastings to the Tower,
From whence this present day he is deliver'd?
We are not safe, Clarence; we are not safe.

CLARENCE:
By heaven, I think there's no man is secure
But the queen's kindred and night-walking heralds
That trudge betwixt the king and Mistress Shore.
Heard ye not what an humble suppliant
Lord hastings was to her for his delivery?

GLOUCESTER:
Humbly complaining to her deity
Got my lord chamberlain his liberty.
I'll tell you what; I think it is our way,
If we will keep in favour with the king,
To be her men and wear her livery:
The jealous o'erworn widow and herself,
Since that our brother dubb'd them gentlewomen.
Are mighty gossips in this monarchy.

BRAKENBURY:
I beseech your graces both to pardon me;
His majesty hath straitly given in charge
That no man shall have private conference,
Of what degree soever, with his brother.

GLOUCESTER:
Even so; an't please your worship, Brakenbury,
You may partake of any thing we say:
We speak no treason, man: we say the king
Is wise and virtuous, and his noble queen
Well struck in years, fair, and not jealous;
We say that Shore's wife hath a pretty foot,
A cherry lip, a bonny eye, a passing pleasing tongue;
And that the queen's kindred are made gentle-folks:
How say you sir? Can you deny all this?

BRAKENBURY:
With this, my lord, myself have nought to do.

GLOUCESTER:
Naught to do with mistress Shore! I tell thee, fellow,
He that doth naught with her, excepting one,
Were best he do it secretly, alone.

BRAKENBURY:
What one, my lord?

GLOUCESTER:
Her husband, knave: wouldst thou betray me?

BRAKENBURY:
I beseech your grace to pardon me, and withal
Forbear your conference with the noble duke.

CLARENCE:
We know thy charge, Brakenbury, and will obey.

GLOUCESTER:
We are the queen's abjects, and must obey.
Brother, farewell: I will unto the king;
And whatsoever you will employ me in,
Were it to call King Edward's widow sister,
I will perform it to enfranchise you.
Meantime, this deep disgrace in brotherhood
Touches me deeper than you can imagine.

CLARENCE:
I know it pleaseth neither of us well.

GLOUCESTER:
Well, your imprisonment shall not be long;
Meantime, have patience.

CLARENCE:
I must perforce. Farewell.

GLOUCESTER:
Go, tread the path that thou shalt ne'er return.
Simple, plain Clarence! I do love thee so,
That I will shortly send thy soul to heaven,
If heaven will take the present at our hands.
But who comes here? the new-deliver'd Hastings?
`,
  `ROMEO:
He jests at scars that never felt a wound.
But, soft! what light through yonder window breaks?
It is the east, and Juliet is the sun.
Arise, fair sun, and kill the envious moon,
Who is already sick and pale with grief,
That thou her maid art far more fair than she:
Be not her maid, since she is envious;
Her vestal livery is but sick and green
And none but fools do wear it; cast it off.
It is my lady, O, it is my love!
O, that she knew she were!
She speaks yet she says nothing: what of that?
Her eye discourses; I will answer it.
I am too bold, 'tis not to me she speaks:
Two of the fairest stars in all the heaven,
Having some business, do entreat her eyes
To twinkle in their spheres till they return.
What if her eyes were there, they in her head?
The brightness of her cheek would shame those stars,
As daylight doth a lamp; her eyes in heaven
Would through the airy region stream so bright
That birds would sing and think it were not night.
See, how she leans her cheek upon her hand!
O, that I were a glove upon that hand,
That I might touch that cheek!

JULIET:
Ay me!

ROMEO:
She speaks:
O, speak again, bright angel! for thou art
As glorious to this night, being o'er my head
As is a winged messenger of heaven
Unto the white-upturned wondering eyes
Of mortals that fall back to gaze on him
When he bestrides the lazy-pacing clouds
And sails upon the bosom of the air.

JULIET:
O Romeo, Romeo! wherefore art thou Romeo?
Deny thy father and refuse thy name;
Or, if thou wilt not, be but sworn my love,
And I'll no longer be a Capulet.

ROMEO:

JULIET:
'Tis but thy name that is my enemy;
Thou art thyself, though not a Montague.
What's Montague? it is nor hand, nor foot,
Nor arm, nor face, nor any other part
Belonging to a man. O, be some other name!
What's in a name? that which we call a rose
By any other name would smell as sweet;
So Romeo would, were he not Romeo call'd,
Retain that dear perfection which he owes
Without that title. Romeo, doff thy name,
And for that name which is no part of thee
Take all myself.

ROMEO:
I take thee at thy word:
Call me but love, and I'll be new baptized;
Henceforth I never will be Romeo.

JULIET:
What man art thou that thus bescreen'd in night
So stumblest on my counsel?

ROMEO:
By a name
I know not how to tell thee who I am:
My name, dear saint, is hateful to myself,
Because it is an enemy to thee;
Had I it written, I would tear the word.

JULIET:
My ears have not yet drunk a hundred words
Of that tongue's utterance, yet I know the sound:
Art thou not Romeo and a Montague?

ROMEO:
Neither, fair saint, if either thee dislike.

JULIET:
How camest thou hither, tell me, and wherefore?
The orchard walls are high and hard to climb,
And the place death, considering who thou art,
If any of my kinsmen find thee here.

ROMEO:
With love's light wings did I o'er-perch these walls;
For stony limits cannot hold love out,
And what love can do that dares love attempt;
Therefore thy kinsmen are no let to me.

JULIET:
If they do see thee, they will murder thee.

ROMEO:
Alack, there lies more peril in thine eye
Than twenty of their swords: look thou but sweet,
And I am proof against their enmity.

JULIET:
I would not for the world they saw thee here.

ROMEO:
I have night's cloak to hide me from their sight;
And but thou love me, let them find me here:
My life were better ended by their hate,
Than death prorogued, wanting of thy love.

JULIET:
By whose direction found'st thou out this place?

ROMEO:
By love, who first did prompt me to inquire;
He lent me counsel and I lent him eyes.
I am no pilot; yet, wert thou as far
As that vast shore wash'd with the farthest sea,
I would adventure for such merchandise.

JULIET:
Thou know'st the mask of night is on my face,
Else would a maiden blush bepaint my cheek
For that which thou hast heard me speak to-night
Fain would I dwell on form, fain, fain deny
What I have spoke: but farewell compliment!
Dost thou love me? I know thou wilt say 'Ay,'
And I will take thy word: yet if thou swear'st,
Thou mayst prove false; at lovers' perjuries
Then say, Jove laughs. O gentle Romeo,
If thou dost love, pronounce it faithfully:
Or if thou think'st I am too quickly won,
I'll frown and be perverse an say thee nay,
So thou wilt woo; but else, not for the world.
In truth, fair Montague, I am too fond,
And therefore thou mayst think my 'havior light:
But trust me, gentleman, I'll prove more true
Than those that have more cunning to be strange.
I should have been more strange, I must confess,
But that thou overheard'st, ere I was ware,
My true love's passion: therefore pardon me,
And not impute this yielding to light love,
Which the dark night hath so discovered.

ROMEO:
Lady, by yonder blessed moon I swear
That tips with silver all these fruit-tree tops--

JULIET:
O, swear not by the moon, the inconstant moon,
That monthly changes in her circled orb,
Lest that thy love prove likewise variable.

ROMEO:
What shall I swear by?

JULIET:
Do not swear at all;
Or, if thou wilt, swear by thy gracious self,
Which is the god of my idolatry,
And I'll believe thee.

ROMEO:
If my heart's dear love--

JULIET:
Well, do not swear: although I joy in thee,
I have no joy of this contract to-night:
It is too rash, too unadvised, too sudden;
Too like the lightning, which doth cease to be
Ere one can say 'It lightens.' Sweet, good night!
This bud of love, by summer's ripening breath,
May prove a beauteous flower when next we meet.
Good night, good night! as sweet repose and rest
Come to thy heart as that within my breast!

ROMEO:
O, wilt thou leave me so unsatisfied?

JULIET:
What satisfaction canst thou have to-night?
`,
  `KING RICHARD II:
I have been studying how I may compare
This prison where I live unto the world:
And for because the world is populous
And here is not a creature but myself,
I cannot do it; yet I'll hammer it out.
My brain I'll prove the female to my soul,
My soul the father; and these two beget
A generation of still-breeding thoughts,
And these same thoughts people this little world,
In humours like the people of this world,
For no thought is contented. The better sort,
As thoughts of things divine, are intermix'd
With scruples and do set the word itself
Against the word:
As thus, 'Come, little ones,' and then again,
'It is as hard to come as for a camel
To thread the postern of a small needle's eye.'
Thoughts tending to ambition, they do plot
Unlikely wonders; how these vain weak nails
May tear a passage through the flinty ribs
Of this hard world, my ragged prison walls,
And, for they cannot, die in their own pride.
Thoughts tending to content flatter themselves
That they are not the first of fortune's slaves,
Nor shall not be the last; like silly beggars
Who sitting in the stocks refuge their shame,
That many have and others must sit there;
And in this thought they find a kind of ease,
Bearing their own misfortunes on the back
Of such as have before endured the like.
Thus play I in one person many people,
And none contented: sometimes am I king;
Then treasons make me wish myself a beggar,
And so I am: then crushing penury
Persuades me I was better when a king;
Then am I king'd again: and by and by
Think that I am unking'd by Bolingbroke,
And straight am nothing: but whate'er I be,
Nor I nor any man that but man is
With nothing shall be pleased, till he be eased
With being nothing. Music do I hear?
Ha, ha! keep time: how sour sweet music is,
When time is broke and no proportion kept!
So is it in the music of men's lives.
And here have I the daintiness of ear
To cheque time broke in a disorder'd string;
But for the concord of my state and time
Had not an ear to hear my true time broke.
I wasted time, and now doth time waste me;
For now hath time made me his numbering clock:
My thoughts are minutes; and with sighs they jar
Their watches on unto mine eyes, the outward watch,
Whereto my finger, like a dial's point,
Is pointing still, in cleansing them from tears.
Now sir, the sound that tells what hour it is
Are clamorous groans, which strike upon my heart,
Which is the bell: so sighs and tears and groans
Show minutes, times, and hours: but my time
Runs posting on in Bolingbroke's proud joy,
While I stand fooling here, his Jack o' the clock.
This music mads me; let it sound no more;
For though it have holp madmen to their wits,
In me it seems it will make wise men mad.
Yet blessing on his heart that gives it me!
For 'tis a sign of love; and love to Richard
Is a strange brooch in this all-hating world.

Groom:
Hail, royal prince!

KING RICHARD II:
Thanks, noble peer;
The cheapest of us is ten groats too dear.
What art thou? and how comest thou hither,
Where no man never comes but that sad dog
That brings me food to make misfortune live?

Groom:
I was a poor groom of thy stable, king,
When thou wert king; who, travelling towards York,
With much ado at length have gotten leave
To look upon my sometimes royal master's face.
O, how it yearn'd my heart when I beheld
In London streets, that coronation-day,
When Bolingbroke rode on roan Barbary,
That horse that thou so often hast bestrid,
That horse that I so carefully have dress'd!

KING RICHARD II:
Rode he on Barbary? Tell me, gentle friend,
How went he under him?

Groom:
So proudly as if he disdain'd the ground.

KING RICHARD II:
So proud that Bolingbroke was on his back!
That jade hath eat bread from my royal hand;
This hand hath made him proud with clapping him.
Would he not stumble? would he not fall down,
Since pride must have a fall, and break the neck
Of that proud man that did usurp his back?
Forgiveness, horse! why do I rail on thee,
Since thou, created to be awed by man,
Wast born to bear? I was not made a horse;
And yet I bear a burthen like an ass,
Spurr'd, gall'd and tired by jouncing Bolingbroke.
`,
  `ISABELLA:
Yes, he would give't thee, from this rank offence,
So to offend him still. This night's the time
That I should do what I abhor to name,
Or else thou diest to-morrow.

CLAUDIO:
Thou shalt not do't.

ISABELLA:
O, were it but my life,
I'ld throw it down for your deliverance
As frankly as a pin.

CLAUDIO:
Thanks, dear Isabel.

ISABELLA:
Be ready, Claudio, for your death tomorrow.

CLAUDIO:
Yes. Has he affections in him,
That thus can make him bite the law by the nose,
When he would force it? Sure, it is no sin,
Or of the deadly seven, it is the least.

ISABELLA:
Which is the least?

CLAUDIO:
If it were damnable, he being so wise,
Why would he for the momentary trick
Be perdurably fined? O Isabel!

ISABELLA:
What says my brother?

CLAUDIO:
Death is a fearful thing.

ISABELLA:
And shamed life a hateful.

CLAUDIO:
Ay, but to die, and go we know not where;
To lie in cold obstruction and to rot;
This sensible warm motion to become
A kneaded clod; and the delighted spirit
To bathe in fiery floods, or to reside
In thrilling region of thick-ribbed ice;
To be imprison'd in the viewless winds,
And blown with restless violence round about
The pendent world; or to be worse than worst
Of those that lawless and incertain thought
Imagine howling: 'tis too horrible!
The weariest and most loathed worldly life
That age, ache, penury and imprisonment
Can lay on nature is a paradise
To what we fear of death.

ISABELLA:
Alas, alas!

CLAUDIO:
Sweet sister, let me live:
What sin you do to save a brother's life,
Nature dispenses with the deed so far
That it becomes a virtue.

ISABELLA:
O you beast!
O faithless coward! O dishonest wretch!
Wilt thou be made a man out of my vice?
Is't not a kind of incest, to take life
From thine own sister's shame? What should I think?
Heaven shield my mother play'd my father fair!
For such a warped slip of wilderness
Ne'er issued from his blood. Take my defiance!
Die, perish! Might but my bending down
Reprieve thee from thy fate, it should proceed:
I'll pray a thousand prayers for thy death,
No word to save thee.

CLAUDIO:
Nay, hear me, Isabel.

ISABELLA:
O, fie, fie, fie!
Thy sin's not accidental, but a trade.
Mercy to thee would prove itself a bawd:
'Tis best thou diest quickly.

CLAUDIO:
O hear me, Isabella!

DUKE VINCENTIO:
Vouchsafe a word, young sister, but one word.

ISABELLA:
What is your will?

DUKE VINCENTIO:
Might you dispense with your leisure, I would by and
by have some speech with you: the satisfaction I
would require is likewise your own benefit.

ISABELLA:
I have no superfluous leisure; my stay must be
stolen out of other affairs; but I will attend you awhile.

DUKE VINCENTIO:
Son, I have overheard what hath passed between you
and your sister. Angelo had never the purpose to
corrupt her; only he hath made an essay of her
virtue to practise his judgment with the disposition
of natures: she, having the truth of honour in her,
hath made him that gracious denial which he is most
glad to receive. I am confessor to Angelo, and I
know this to be true; therefore prepare yourself to
death: do not satisfy your resolution with hopes
that are fallible: tomorrow you must die; go to
your knees and make ready.

CLAUDIO:
Let me ask my sister pardon. I am so out of love
with life that I will sue to be rid of it.

DUKE VINCENTIO:
Hold you there: farewell.
Provost, a word with you!

Provost:
What's your will, father

DUKE VINCENTIO:
That now you are come, you will be gone. Leave me
awhile with the maid: my mind promises with my
habit no loss shall touch her by my company.

Provost:
In good time.

DUKE VINCENTIO:
The hand that hath made you fair hath made you good:
the goodness that is cheap in beauty makes beauty
brief in goodness; but grace, being the soul of
your complexion, shall keep the body of it ever
fair. The assault that Angelo hath made to you,
fortune hath conveyed to my understanding; and, but
that frailty hath examples for his falling, I should
wonder at Angelo. How will you do to content this
substitute, and to save your brother?

ISABELLA:
I am now going to resolve him: I had rather my
brother die by the law than my son should be
unlawfully born. But, O, how much is the good duke
deceived in Angelo! If ever he return and I can
speak to him, I will open my lips in vain, or
discover his government.
`,
  `KATHARINA:
Moved! in good time: let him that moved you hither
Remove you hence: I knew you at the first
You were a moveable.

PETRUCHIO:
Why, what's a moveable?

KATHARINA:
A join'd-stool.

PETRUCHIO:
Thou hast hit it: come, sit on me.

KATHARINA:
Asses are made to bear, and so are you.

PETRUCHIO:
Women are made to bear, and so are you.

KATHARINA:
No such jade as you, if me you mean.

PETRUCHIO:
Alas! good Kate, I will not burden thee;
For, knowing thee to be but young and light--

KATHARINA:
Too light for such a swain as you to catch;
And yet as heavy as my weight should be.

PETRUCHIO:
Should be! should--buzz!

KATHARINA:
Well ta'en, and like a buzzard.

PETRUCHIO:
O slow-wing'd turtle! shall a buzzard take thee?

KATHARINA:
Ay, for a turtle, as he takes a buzzard.

PETRUCHIO:
Come, come, you wasp; i' faith, you are too angry.

KATHARINA:
If I be waspish, best beware my sting.

PETRUCHIO:
My remedy is then, to pluck it out.

KATHARINA:
Ay, if the fool could find it where it lies,

PETRUCHIO:
Who knows not where a wasp does
wear his sting? In his tail.

KATHARINA:
In his tongue.

PETRUCHIO:
Whose tongue?

KATHARINA:
Yours, if you talk of tails: and so farewell.

PETRUCHIO:
What, with my tongue in your tail? nay, come again,
Good Kate; I am a gentleman.

KATHARINA:
That I'll try.

PETRUCHIO:
I swear I'll cuff you, if you strike again.

KATHARINA:
So may you lose your arms:
If you strike me, you are no gentleman;
And if no gentleman, why then no arms.

PETRUCHIO:
A herald, Kate? O, put me in thy books!

KATHARINA:
What is your crest? a coxcomb?

PETRUCHIO:
A combless cock, so Kate will be my hen.

KATHARINA:
No cock of mine; you crow too like a craven.

PETRUCHIO:
Nay, come, Kate, come; you must not look so sour.

KATHARINA:
It is my fashion, when I see a crab.

PETRUCHIO:
Why, here's no crab; and therefore look not sour.

KATHARINA:
There is, there is.

PETRUCHIO:
Then show it me.

KATHARINA:
Had I a glass, I would.

PETRUCHIO:
What, you mean my face?

KATHARINA:
Well aim'd of such a young one.

PETRUCHIO:
Now, by Saint George, I am too young for you.

KATHARINA:
Yet you are wither'd.

PETRUCHIO:
'Tis with cares.

KATHARINA:
I care not.

PETRUCHIO:
Nay, hear you, Kate: in sooth you scape not so.

KATHARINA:
I chafe you, if I tarry: let me go.

PETRUCHIO:
No, not a whit: I find you passing gentle.
'Twas told me you were rough and coy and sullen,
And now I find report a very liar;
For thou are pleasant, gamesome, passing courteous,
But slow in speech, yet sweet as spring-time flowers:
Thou canst not frown, thou canst not look askance,
Nor bite the lip, as angry wenches will,
Nor hast thou pleasure to be cross in talk,
But thou with mildness entertain'st thy wooers,
With gentle conference, soft and affable.
Why does the world report that Kate doth limp?
O slanderous world! Kate like the hazel-twig
Is straight and slender and as brown in hue
As hazel nuts and sweeter than the kernels.
O, let me see thee walk: thou dost not halt.

KATHARINA:
Go, fool, and whom thou keep'st command.

PETRUCHIO:
Did ever Dian so become a grove
As Kate this chamber with her princely gait?
O, be thou Dian, and let her be Kate;
And then let Kate be chaste and Dian sportful!

KATHARINA:
Where did you study all this goodly speech?

PETRUCHIO:
It is extempore, from my mother-wit.

KATHARINA:
A witty mother! witless else her son.

PETRUCHIO:
Am I not wise?

KATHARINA:
Yes; keep you warm.

PETRUCHIO:
Marry, so I mean, sweet Katharina, in thy bed:
And therefore, setting all this chat aside,
Thus in plain terms: your father hath consented
That you shall be my wife; your dowry 'greed on;
And, Will you, nill you, I will marry you.
Now, Kate, I am a husband for your turn;
For, by this light, whereby I see thy beauty,
Thy beauty, that doth make me like thee well,
Thou must be married to no man but me;
For I am he am born to tame you Kate,
And bring you from a wild Kate to a Kate
Conformable as other household Kates.
Here comes your father: never make denial;
I must and will have Katharina to my wife.

BAPTISTA:
Now, Signior Petruchio, how speed you with my daughter?

PETRUCHIO:
How but well, sir? how but well?
It were impossible I should speed amiss.

BAPTISTA:
Why, how now, daughter Katharina! in your dumps?

KATHARINA:
Call you me daughter? now, I promise you
You have show'd a tender fatherly regard,
To wish me wed to one half lunatic;
A mad-cup ruffian and a swearing Jack,
That thinks with oaths to face the matter out.

PETRUCHIO:
Father, 'tis thus: yourself and all the world,
That talk'd of her, have talk'd amiss of her:
If she be curst, it is for policy,
For she's not froward, but modest as the dove;
She is not hot, but temperate as the morn;
For patience she will prove a second Grissel,
And Roman Lucrece for her chastity:
And to conclude, we have 'greed so well together,
That upon Sunday is the wedding-day.
`,
  `ARIEL:
All hail, great master! grave sir, hail! I come
To answer thy best pleasure; be't to fly,
To swim, to dive into the fire, to ride
On the curl'd clouds, to thy strong bidding task
Ariel and all his quality.

PROSPERO:
Hast thou, spirit,
Perform'd to point the tempest that I bade thee?

ARIEL:
To every article.
I boarded the king's ship; now on the beak,
Now in the waist, the deck, in every cabin,
I flamed amazement: sometime I'ld divide,
And burn in many places; on the topmast,
The yards and bowsprit, would I flame distinctly,
Then meet and join. Jove's lightnings, the precursors
O' the dreadful thunder-claps, more momentary
And sight-outrunning were not; the fire and cracks
Of sulphurous roaring the most mighty Neptune
Seem to besiege and make his bold waves tremble,
Yea, his dread trident shake.

PROSPERO:
My brave spirit!
Who was so firm, so constant, that this coil
Would not infect his reason?

ARIEL:
Not a soul
But felt a fever of the mad and play'd
Some tricks of desperation. All but mariners
Plunged in the foaming brine and quit the vessel,
Then all afire with me: the king's son, Ferdinand,
With hair up-staring,--then like reeds, not hair,--
Was the first man that leap'd; cried, 'Hell is empty
And all the devils are here.'

PROSPERO:
Why that's my spirit!
But was not this nigh shore?

ARIEL:
Close by, my master.

PROSPERO:
But are they, Ariel, safe?

ARIEL:
Not a hair perish'd;
On their sustaining garments not a blemish,
But fresher than before: and, as thou badest me,
In troops I have dispersed them 'bout the isle.
The king's son have I landed by himself;
Whom I left cooling of the air with sighs
In an odd angle of the isle and sitting,
His arms in this sad knot.

PROSPERO:
Of the king's ship
The mariners say how thou hast disposed
And all the rest o' the fleet.

ARIEL:
Safely in harbour
Is the king's ship; in the deep nook, where once
Thou call'dst me up at midnight to fetch dew
From the still-vex'd Bermoothes, there she's hid:
The mariners all under hatches stow'd;
Who, with a charm join'd to their suffer'd labour,
I have left asleep; and for the rest o' the fleet
Which I dispersed, they all have met again
And are upon the Mediterranean flote,
Bound sadly home for Naples,
Supposing that they saw the king's ship wreck'd
And his great person perish.

PROSPERO:
Ariel, thy charge
Exactly is perform'd: but there's more work.
What is the time o' the day?

ARIEL:
Past the mid season.

PROSPERO:
At least two glasses. The time 'twixt six and now
Must by us both be spent most preciously.

ARIEL:
Is there more toil? Since thou dost give me pains,
Let me remember thee what thou hast promised,
Which is not yet perform'd me.

PROSPERO:
How now? moody?
What is't thou canst demand?

ARIEL:
My liberty.

PROSPERO:
Before the time be out? no more!

ARIEL:
I prithee,
Remember I have done thee worthy service;
Told thee no lies, made thee no mistakings, served
Without or grudge or grumblings: thou didst promise
To bate me a full year.

PROSPERO:
Dost thou forget
From what a torment I did free thee?

ARIEL:
No.

PROSPERO:
Thou dost, and think'st it much to tread the ooze
Of the salt deep,
To run upon the sharp wind of the north,
To do me business in the veins o' the earth
When it is baked with frost.

ARIEL:
I do not, sir.

PROSPERO:
Thou liest, malignant thing! Hast thou forgot
The foul witch Sycorax, who with age and envy
Was grown into a hoop? hast thou forgot her?

ARIEL:
No, sir.

PROSPERO:
Thou hast. Where was she born? speak; tell me.

ARIEL:
Sir, in Argier.

PROSPERO:
O, was she so? I must
Once in a month recount what thou hast been,
Which thou forget'st. This damn'd witch Sycorax,
For mischiefs manifold and sorceries terrible
To enter human hearing, from Argier,
Thou know'st, was banish'd: for one thing she did
They would not take her life. Is not this true?

ARIEL:
Ay, sir.

PROSPERO:
This blue-eyed hag was hither brought with child
And here was left by the sailors. Thou, my slave,
As thou report'st thyself, wast then her servant;
And, for thou wast a spirit too delicate
To act her earthy and abhorr'd commands,
Refusing her grand hests, she did confine thee,
By help of her more potent ministers
And in her most unmitigable rage,
Into a cloven pine; within which rift
Imprison'd thou didst painfully remain
A dozen years; within which space she died
And left thee there; where thou didst vent thy groans
As fast as mill-wheels strike. Then was this island--
Save for the son that she did litter here,
A freckled whelp hag-born--not honour'd with
A human shape.
`,
  `MENENIUS:
Either you must
Confess yourselves wondrous malicious,
Or be accused of folly. I shall tell you
A pretty tale: it may be you have heard it;
But, since it serves my purpose, I will venture
To stale 't a little more.

First Citizen:
Well, I'll hear it, sir: yet you must not think to
fob off our disgrace with a tale: but, an 't please
you, deliver.

MENENIUS:
There was a time when all the body's members
Rebell'd against the belly, thus accused it:
That only like a gulf it did remain
I' the midst o' the body, idle and unactive,
Still cupboarding the viand, never bearing
Like labour with the rest, where the other instruments
Did see and hear, devise, instruct, walk, feel,
And, mutually participate, did minister
Unto the appetite and affection common
Of the whole body. The belly answer'd--

First Citizen:
Well, sir, what answer made the belly?

MENENIUS:
Sir, I shall tell you. With a kind of smile,
Which ne'er came from the lungs, but even thus--
For, look you, I may make the belly smile
As well as speak--it tauntingly replied
To the discontented members, the mutinous parts
That envied his receipt; even so most fitly
As you malign our senators for that
They are not such as you.

First Citizen:
Your belly's answer? What!
The kingly-crowned head, the vigilant eye,
The counsellor heart, the arm our soldier,
Our steed the leg, the tongue our trumpeter.
With other muniments and petty helps
In this our fabric, if that they--

MENENIUS:
What then?
'Fore me, this fellow speaks! What then? what then?

First Citizen:
Should by the cormorant belly be restrain'd,
Who is the sink o' the body,--

MENENIUS:
Well, what then?

First Citizen:
The former agents, if they did complain,
What could the belly answer?

MENENIUS:
I will tell you
If you'll bestow a small--of what you have little--
Patience awhile, you'll hear the belly's answer.

First Citizen:
Ye're long about it.

MENENIUS:
Note me this, good friend;
Your most grave belly was deliberate,
Not rash like his accusers, and thus answer'd:
'True is it, my incorporate friends,' quoth he,
'That I receive the general food at first,
Which you do live upon; and fit it is,
Because I am the store-house and the shop
Of the whole body: but, if you do remember,
I send it through the rivers of your blood,
Even to the court, the heart, to the seat o' the brain;
And, through the cranks and offices of man,
The strongest nerves and small inferior veins
From me receive that natural competency
Whereby they live: and though that all at once,
You, my good friends,'--this says the belly, mark me,--

First Citizen:
Ay, sir; well, well.

MENENIUS:
'Though all at once cannot
See what I do deliver out to each,
Yet I can make my audit up, that all
From me do back receive the flour of all,
And leave me but the bran.' What say you to't?

First Citizen:
It was an answer: how apply you this?

MENENIUS:
The senators of Rome are this good belly,
And you the mutinous members; for examine
Their counsels and their cares, digest things rightly
Touching the weal o' the common, you shall find
No public benefit which you receive
But it proceeds or comes from them to you
And no way from yourselves. What do you think,
You, the great toe of this assembly?

First Citizen:
I the great toe! why the great toe?

MENENIUS:
For that, being one o' the lowest, basest, poorest,
Of this most wise rebellion, thou go'st foremost:
Thou rascal, that art worst in blood to run,
Lead'st first to win some vantage.
But make you ready your stiff bats and clubs:
Rome and her rats are at the point of battle;
The one side must have bale.
Hail, noble Marcius!

MARCIUS:
Thanks. What's the matter, you dissentious rogues,
That, rubbing the poor itch of your opinion,
Make yourselves scabs?

First Citizen:
We have ever your good word.

MARCIUS:
He that will give good words to thee will flatter
Beneath abhorring. What would you have, you curs,
That like nor peace nor war? the one affrights you,
The other makes you proud. He that trusts to you,
Where he should find you lions, finds you hares;
Where foxes, geese: you are no surer, no,
Than is the coal of fire upon the ice,
Or hailstone in the sun. Your virtue is
To make him worthy whose offence subdues him
And curse that justice did it.
Who deserves greatness
Deserves your hate; and your affections are
A sick man's appetite, who desires most that
Which would increase his evil. He that depends
Upon your favours swims with fins of lead
And hews down oaks with rushes. Hang ye! Trust Ye?
With every minute you do change a mind,
And call him noble that was now your hate,
Him vile that was your garland. What's the matter,
That in these several places of the city
You cry against the noble senate, who,
Under the gods, keep you in awe, which else
Would feed on one another? What's their seeking?
`,
];
